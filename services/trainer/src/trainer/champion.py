"""What a challenger has to beat, and what it starts from."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass, replace

import torch

from sgaps import checkpoints
from sgaps.atlas.atlas import Atlas
from sgaps.errors import CheckpointError, CheckpointUnreadable, SgapsError
from sgaps.manifest import Manifest
from sgaps.model import SparsePixelTransformer, build_model, load_serving, stores_of
from sgaps.settings import DataSettings, ModelSettings, Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Champion:
    """What a challenger has to beat, or starts from."""

    model: SparsePixelTransformer
    settings: ModelSettings
    """Its shape, which need not be that of the challenger."""
    version: str
    trained_on: frozenset[str] = frozenset()
    """The sessions that its weights were trained on, as far as its parents are still there."""
    atlas: Atlas | None = None


def champion_of(checkpoint_key: str, settings: Settings) -> Champion:
    """The model that serves the key now; the untrained prior where there is none to be used.

    Raises SgapsError.
    """
    if settings.model.color_channels != 1:
        raise SgapsError("recordings are gray: model.color_channels must be 1")
    try:
        model, manifest, atlas = load_serving(settings.data, checkpoint_key)
    except CheckpointUnreadable:  # it may still serve: nothing takes its place unmeasured
        raise
    except CheckpointError as error:
        log.info("%s starts from the prior: %s", checkpoint_key, error)
        return _fresh(settings)
    own = manifest.checkpoint_key == checkpoint_key
    champion = _served(model, manifest, settings.data)
    return replace(champion, atlas=atlas if own else None)


def begun_from(checkpoint_key: str, champion: Champion, settings: Settings) -> Champion:
    """What training starts from: the champion; where another shape is wanted, the default key's
    model if that has it, else a new one."""
    if champion.settings == settings.model:
        return champion
    try:
        model, manifest, _ = load_serving(settings.data, checkpoints.DEFAULT_KEY)
    except CheckpointError as error:
        log.info("no general checkpoint to start from: %s", error)
    else:
        if manifest.model == settings.model:
            log.info("%s starts from the general %s", checkpoint_key, manifest.model_version)
            return _served(model, manifest, settings.data)
    log.info("%s starts afresh: the model settings changed", checkpoint_key)
    return _fresh(settings)


def _served(model: SparsePixelTransformer, manifest: Manifest, data: DataSettings) -> Champion:
    return Champion(
        model=model,
        settings=manifest.model,
        version=manifest.model_version,
        trained_on=sessions_of(manifest, data),
    )


def sessions_of(manifest: Manifest, data: DataSettings) -> frozenset[str]:
    """Those that its weights were trained on, as far as its parents are still there."""
    lineage = _lineage(manifest, data)
    return frozenset(session for each in lineage for session in each.data.train_sessions)


def _lineage(manifest: Manifest, data: DataSettings) -> list[Manifest]:
    """It and those that its weights come from, as far as they are there: the newest first."""
    found = [manifest]
    while parent := _parent(found[-1], data):
        if parent in found or parent.model != manifest.model:  # another shape: no weights of it
            break
        found.append(parent)
    return found


def _parent(manifest: Manifest, data: DataSettings) -> Manifest | None:
    """Of its own key or the general one, which serves where a key has none."""
    if manifest.parent is None:
        return None
    for key in (manifest.checkpoint_key, checkpoints.DEFAULT_KEY):
        for store in stores_of(data):
            with suppress(CheckpointError):
                return store.manifest(key, manifest.parent)
    return None


def _fresh(settings: Settings) -> Champion:
    torch.manual_seed(settings.training.seed)
    return Champion(
        model=build_model(settings.model), settings=settings.model, version=checkpoints.UNTRAINED
    )
