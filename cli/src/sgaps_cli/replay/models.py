"""The checkpoints to choose from, and the models of those that were chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

from cachetools import LRUCache, cachedmethod

from sgaps.atlas.atlas import Atlas
from sgaps.checkpoints import DEFAULT_KEY, UNTRAINED, CheckpointDirectory, version_number
from sgaps.errors import CheckpointError, CheckpointRejected
from sgaps.manifest import Manifest
from sgaps.model import CheckpointStore, SparsePixelTransformer, build_model, stores_of
from sgaps.settings import ModelSettings, Settings
from sgaps_cli.replay.errors import NotListed

LOADED_MODELS = 4
GRAY = 1
"""Color channels of what is recorded."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A version of a checkpoint, or the interpolation that every model starts from."""

    checkpoint_id: str
    key: str
    version: str
    is_shipped: bool = False
    is_in_force: bool = False
    """Whether it is what its key is served by, as far as its own folder says."""
    val_psnr_db: float | None = None
    created_at: str = ""
    """UTC, ISO 8601."""
    problem: str = ""
    """Why it cannot be used, as far as its manifest tells."""


NO_CHECKPOINT = Choice(checkpoint_id=UNTRAINED, key="", version=UNTRAINED)


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """A model that is ready, and how it was built."""

    version: str
    model: SparsePixelTransformer
    settings: ModelSettings
    atlas: Atlas | None = None

    @property
    def is_trained(self) -> bool:
        return self.version != UNTRAINED


class Models:
    """Lists checkpoints, and loads those that it has listed. For one thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._listed: dict[str, tuple[Choice, CheckpointStore | None]] = {}
        self._loaded: LRUCache[str, Loaded] = LRUCache(LOADED_MODELS)

    def scan(self) -> list[Choice]:
        """All that can be chosen: one's own, then shipped ones, then none; newest versions first.

        A damaged one is among them, with what is wrong with it.
        """
        own, shipped = stores_of(self._settings.data)
        found: list[tuple[Choice, CheckpointStore | None]] = [
            (choice, own) for choice in _choices(own, is_shipped=False)
        ]
        if shipped.root.resolve() != own.root.resolve():
            found += [(choice, shipped) for choice in _choices(shipped, is_shipped=True)]
        found.append((NO_CHECKPOINT, None))
        self._listed = {choice.checkpoint_id: (choice, store) for choice, store in found}
        return [choice for choice, _ in found]

    def load(self, checkpoint_id: str) -> Loaded:
        """Raises NotListed, CheckpointError."""
        if checkpoint_id not in self._listed:
            raise NotListed("there is no such checkpoint any more; load the page again")
        return self._load(checkpoint_id)

    @cachedmethod(attrgetter("_loaded"))
    def _load(self, checkpoint_id: str) -> Loaded:
        choice, store = self._listed[checkpoint_id]
        if store is None:
            settings = self._settings.model.model_copy(update={"color_channels": GRAY})
            return Loaded(version=UNTRAINED, model=build_model(settings).eval(), settings=settings)
        try:
            model, manifest, atlas = store.load(choice.key, choice.version)
        except CheckpointError as error:
            raise type(error)(f"{error}; choose another checkpoint") from error
        if problem := _problem(manifest):
            raise CheckpointRejected(f"{choice.key}/{choice.version} {problem}")
        return Loaded(version=choice.version, model=model, settings=manifest.model, atlas=atlas)


def _choices(store: CheckpointDirectory, *, is_shipped: bool) -> Iterator[Choice]:
    for key in store.all_keys():
        try:
            current, versions = store.current_version(key), store.versions(key)
        except CheckpointError:
            continue  # a folder that is a link, or a pointer to nowhere: nothing of it can be used
        for version in reversed(versions):
            yield _choice(store, key, version, is_shipped=is_shipped, current=current)


def _choice(
    store: CheckpointDirectory, key: str, version: str, *, is_shipped: bool, current: str | None
) -> Choice:
    problem, manifest = "", None
    try:
        manifest = store.manifest(key, version)
        problem = _problem(manifest)
    except CheckpointError as error:
        problem = str(error)
    return Choice(
        checkpoint_id="/".join(["shipped" if is_shipped else "own", key, version]),
        key=key,
        version=version,
        is_shipped=is_shipped,
        is_in_force=version == current,
        val_psnr_db=manifest.metrics.val_psnr_db if manifest else None,
        created_at=manifest.created_at if manifest else "",
        problem=problem,
    )


def _problem(manifest: Manifest) -> str:
    if manifest.model.color_channels != GRAY:
        return "is for frames in color, and recordings are gray; choose another checkpoint"
    return ""


def default_pair(choices: Sequence[Choice], key: str) -> tuple[str, str]:
    """What to compare on recordings of a key: what serves it, and what was there before.

    That is the version before it, else what is shipped for all, else the bare interpolation.
    """
    usable = [choice for choice in choices if not choice.problem]
    serving = _serving(usable, key)
    others = [
        *(c for c in usable if _is_before(c, serving)),  # the newest first
        *(c for c in usable if c.is_shipped and c.is_in_force and c.key in {key, DEFAULT_KEY}),
        NO_CHECKPOINT,
    ]
    other = next((c for c in others if c.checkpoint_id != serving.checkpoint_id), serving)
    return serving.checkpoint_id, other.checkpoint_id


def _serving(usable: Sequence[Choice], key: str) -> Choice:
    """As `sgaps.model.load_serving` has it: its own key first, one's own folder first."""
    in_force = (c for name in (key, DEFAULT_KEY) for c in usable if c.key == name and c.is_in_force)
    return next(in_force, NO_CHECKPOINT)


def _is_before(choice: Choice, serving: Choice) -> bool:
    return (choice.key, choice.is_shipped) == (serving.key, serving.is_shipped) and (
        version_number(choice.version) < version_number(serving.version)
    )
