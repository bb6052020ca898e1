"""Which model serves which key: loaded when it is played, swapped while it serves."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from reconstructor.forward import Forward
from sgaps.atlas.atlas import Atlas
from sgaps.checkpoints import DEFAULT_KEY, UNTRAINED, Stamps
from sgaps.errors import CheckpointError, CheckpointNotFound, CheckpointUnreadable
from sgaps.metrics import reconstructor as metrics
from sgaps.model import CheckpointStore, build_model, require_gray
from sgaps.settings import ModelSettings, Settings

log = logging.getLogger(__name__)

PLAYED_SECS = 60.0
"""A key of which no frame came for so long may make room for another one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Serving:
    """A model and what it is called."""

    forward: Forward
    settings: ModelSettings
    """Its own shape, which need not be the configured one."""
    version: str
    atlas: Atlas | None = None


class Place(NamedTuple):
    """Where a checkpoint lies."""

    store: CheckpointStore
    key: str
    version: str
    stamps: Stamps = ()
    """Of its files: one that is copied by halves, or mended, is another one."""


@dataclass
class _Loaded:
    """A model in memory."""

    serving: Serving
    played_at_secs: float = -math.inf
    """When a frame of it came last, by `time.monotonic`."""


class Models:
    """The checkpoints in force, of which those that are played are in memory.

    A frame of a key that is not loaded waits for its model (half a second, with an atlas); where
    as many are played as there is room for, it is served by the general one. One thread may look
    for new ones while another one computes.
    """

    def __init__(
        self, stores: Sequence[CheckpointStore], settings: Settings, device: torch.device
    ) -> None:
        """Stores that come first go before later ones."""
        self._stores = stores
        self._most = settings.reconstructor.max_models
        self._kept_frames = settings.server.history_frames
        self._device = device
        untrained = Forward(build_model(settings.model).eval().to(device), device)
        self._general = Serving(forward=untrained, settings=settings.model, version=UNTRAINED)
        self._in_force: dict[str, Place] = {}
        """All by their manifest; each that came while this one ran has passed every check."""
        self._loaded: dict[str, _Loaded] = {}
        """But the general one's."""
        self._changing = threading.Lock()
        self._refused: set[Place] = set()
        """What is not looked at again."""
        self._told: set[Place] = set()
        """What was in trouble, these among them: it is logged once for each state of its files."""
        self._told_to_lack_a_past: set[Place] = set()
        self._keys_in_trouble: set[str] = set()
        """Keys whose checkpoint in force was not taken at the last look."""
        self._is_starting = True
        self.refresh()
        if DEFAULT_KEY not in self._in_force:
            log.warning(
                "no checkpoint of %r in %s serves, so an untrained model does: data.checkpoints_dir"
                " and data.shipped_dir must be right, mounted, and readable to this user",
                DEFAULT_KEY,
                " or ".join(str(store.root) for store in stores),
            )

    def of(self, key: str) -> Serving:
        """What serves a frame of this key, which is counted where it finds no room."""
        with self._changing:
            place = self._in_force.get(key)
            if place is None or key == DEFAULT_KEY:
                return self._general
            if loaded := self._loaded.get(key):
                loaded.played_at_secs = time.monotonic()
                return loaded.serving
            if not self._makes_room():
                metrics.WITHOUT_ROOM.inc()
                return self._general
        try:
            serving = self._load(place)
        except CheckpointError as error:
            self._refuse(place, error, served_by="the general one")
            with self._changing:
                self._in_force = {k: p for k, p in self._in_force.items() if p != place}
            return self._general
        with self._changing:
            # Asked again: a look may have taken the room meanwhile.
            if self._in_force.get(key) == place and self._makes_room():
                self._loaded[key] = _Loaded(serving, time.monotonic())
        return serving

    def is_at_hand(self, key: str) -> bool:
        """Whether nothing has to be loaded to serve a frame of this key."""
        with self._changing:
            return key in self._loaded or key == DEFAULT_KEY or key not in self._in_force

    def _makes_room(self) -> bool:
        """Whether there is room for one more: free, or of what was not played for long enough."""
        if len(self._loaded) < self._most:
            return True
        idlest = min(self._loaded, key=lambda key: self._loaded[key].played_at_secs)
        if time.monotonic() - self._loaded[idlest].played_at_secs < PLAYED_SECS:
            return False
        del self._loaded[idlest]
        return True

    def versions(self) -> dict[str, str]:
        """Key → the version in force; `default` for every other key.

        The same in all replicas, though in one of them a key may find no room: that is counted.
        """
        with self._changing:
            in_force = {key: place.version for key, place in self._in_force.items()}
            return in_force | {DEFAULT_KEY: self._general.version}

    def refresh(self) -> int:
        """Take what came into force; how many."""
        swapped, stores = 0, self._stores_of_keys()
        self._let_go(self._in_force.keys() - stores.keys() - {DEFAULT_KEY})
        self._keys_in_trouble.clear()
        for key in stores:
            swapped += self._takes_newest(stores[key], key)
        self._is_starting = False
        metrics.refuse_checkpoints({key: key in self._keys_in_trouble for key in stores})
        return swapped

    def _let_go(self, deleted: Iterable[str]) -> None:
        """What a start would not find serves no more, so that all replicas serve the same."""
        for key in sorted(deleted):
            log.warning("%s has no checkpoint any more: the general one serves it", key)
            with self._changing:
                self._in_force = {k: p for k, p in self._in_force.items() if k != key}
                self._loaded.pop(key, None)

    def _stores_of_keys(self) -> dict[str, list[CheckpointStore]]:
        """Where each key has checkpoints, in the order of the stores."""
        stores: dict[str, list[CheckpointStore]] = {}
        for store in self._stores:
            for key in self._keys_of(store):
                stores.setdefault(key, []).append(store)
        return stores

    def _keys_of(self, store: CheckpointStore) -> Iterable[str]:
        """Of a store that cannot be listed, all: nothing of a later one may replace what serves.

        One that had a checkpoint in force and is empty now is most likely no longer mounted.
        """
        try:
            keys = store.all_keys()
        except CheckpointError as error:
            return self._all_go_on(str(error))
        serves = any(place.store is store for place in self._in_force.values())
        if not keys and serves and not any(store.root.glob("*")):
            return self._all_go_on(f"{store.root} is empty by now: mount it again")
        return keys

    def _all_go_on(self, why: str) -> list[str]:
        log.error("the old models go on serving: %s", why)
        metrics.FAILED.inc()
        return list(self._in_force)

    def _takes_newest(self, stores: Sequence[CheckpointStore], key: str) -> bool:
        """A later store is asked only where an earlier one has nothing usable for a key that has
        nothing yet."""
        for store in stores:
            if self._takes(store, key):
                return True
            if key in self._in_force:
                break
        return False

    def _takes(self, store: CheckpointStore, key: str) -> bool:
        """The checkpoint in force, if it is another one and can be used; refused ones once only."""
        place = Place(store, key, "")
        try:
            version = store.current_version(key)
            if version is None:
                return False
            place = Place(store, key, version, store.stamps(key, version))
            if place in self._refused:
                self._keys_in_trouble.add(key)
                return False
            if (there := self._in_force.get(key)) and there[:3] == place[:3]:
                return False
            require_gray(store.usable(key, version))
            # A start would take half a second for each key; the first frame of one waits instead.
            is_needed = key == DEFAULT_KEY or not self._is_starting
            serving = self._load(place) if is_needed else None
        except CheckpointError as error:
            self._refuse(place, error)
            return False
        with self._changing:
            self._in_force = {**self._in_force, key: place}
            if serving:
                self._keep(key, serving)
        log.info("%s now serves %s", version, key)
        return True

    def _keep(self, key: str, serving: Serving) -> None:
        """In memory, where it is played, or there is room."""
        if key == DEFAULT_KEY:
            self._general = serving
        elif loaded := self._loaded.get(key):
            loaded.serving = serving
        elif len(self._loaded) < self._most:
            self._loaded[key] = _Loaded(serving)

    def _load(self, place: Place) -> Serving:
        """Checked from hash to last number. Raises CheckpointError."""
        model, manifest, atlas = place.store.load(place.key, place.version)
        try:
            forward = Forward(model.to(self._device), self._device)
        except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is the former
            raise CheckpointUnreadable(f"it cannot be put on {self._device}: {error}") from error
        self._tell_of_a_short_past(place, manifest.model.history_frames)
        return Serving(forward=forward, settings=manifest.model, version=place.version, atlas=atlas)

    def _tell_of_a_short_past(self, place: Place, wanted_frames: int) -> None:
        """Once: a model that looks back farther than the broker does is served, but worse."""
        if wanted_frames <= self._kept_frames or place in self._told_to_lack_a_past:
            return
        self._told_to_lack_a_past.add(place)
        log.warning(
            "%s of %s was trained with %d frames of the past and is served with %d: set "
            "server.history_frames=%d",
            place.version,
            place.key,
            wanted_frames,
            self._kept_frames,
            wanted_frames,
        )

    def _refuse(
        self, place: Place, error: CheckpointError, *, served_by: str = "what served it"
    ) -> None:
        """Tell it once. What only could not be read, or is not all there yet, is tried again."""
        if place not in self._told:
            log.error("%s is served by %s: %s", place.key, served_by, error)
        self._told.add(place)
        self._keys_in_trouble.add(place.key)
        if not isinstance(error, CheckpointUnreadable | CheckpointNotFound):
            self._refused.add(place)
