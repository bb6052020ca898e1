"""What one reconstruction means for the next frame's samples. No I/O; the same in, the same out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from sgaps.errors import MessageError
from sgaps.messages import CoordinatesChosen, FrameReconstructed, chosen_set_id
from sgaps.packing import pack_floats, pack_footprints, unpack_coords
from sgaps.sampling.adaptive import AdaptiveUVSampler
from sgaps.sampling.footprints import Coords
from sgaps.sampling.importance import (
    NOTHING_KNOWN,
    AttentionEntropyImportanceCalculator,
    Map,
    PredictedErrorImportanceCalculator,
    importance_to_bytes,
)
from sgaps.sampling.schedule import MaskUpdateScheduler
from sgaps.settings import ImportanceSettings, Settings

COORDS_BYTES = 8
"""Of u and v, both float32."""


@dataclass(frozen=True, kw_only=True)
class StoredCoordinates:
    """The set a session has, as it is kept beside the streams."""

    coordinate_set_id: int
    last_update_frame_id: int
    width: int
    height: int
    coords_bytes: bytes
    """float32 (N, 2)."""
    footprint_bytes: bytes
    footprints: bool
    """Whether they are squares, chosen for a client that can sample them."""
    is_placed_evenly: bool

    def to_fields(self) -> dict[str, bytes]:
        return {
            "coordinate_set_id": b"%d" % self.coordinate_set_id,
            "last_update_frame_id": b"%d" % self.last_update_frame_id,
            "width": b"%d" % self.width,
            "height": b"%d" % self.height,
            "coords": self.coords_bytes,
            "footprints": self.footprint_bytes,
            "has_footprints": b"1" if self.footprints else b"",
            "is_placed_evenly": b"1" if self.is_placed_evenly else b"",
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, bytes]) -> Self | None:
        """What was stored; None where nothing, or nothing readable, was."""
        try:
            stored = cls(
                coordinate_set_id=int(fields["coordinate_set_id"]),
                last_update_frame_id=int(fields["last_update_frame_id"]),
                width=int(fields["width"]),
                height=int(fields["height"]),
                coords_bytes=fields["coords"],
                footprint_bytes=fields.get("footprints", b""),
                footprints=bool(fields.get("has_footprints")),
                is_placed_evenly=bool(fields.get("is_placed_evenly")),
            )
            uv = stored.coords[:, :2]
        except (KeyError, ValueError, MessageError):
            return None
        # NaN is on neither side of a bound.
        return stored if uv.size and ((uv >= 0) & (uv <= 1)).all() else None

    @property
    def count(self) -> int:
        return len(self.coords_bytes) // COORDS_BYTES

    @property
    def coords(self) -> Coords:
        """(N, 3): u, v, footprint. Raises MessageError."""
        return unpack_coords(self.coords_bytes, self.footprint_bytes)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What follows from a frame alone, whatever set its session has."""

    importance: Map
    new: StoredCoordinates | None
    """The set that the session gets, where one is due in any case."""


def draft(frame: FrameReconstructed, settings: Settings) -> Draft:
    """Done before the session's set is read, for then it may not be needed. Raises MessageError."""
    importance = _importance(frame, settings.importance)
    # As if the last one were just drawn: then only a poor picture makes a new one due.
    is_due = _is_due(frame, frame.frame_id, settings)
    return Draft(
        importance=importance, new=_new_set(frame, importance, settings) if is_due else None
    )


def choose(
    frame: FrameReconstructed, drafted: Draft, stored: StoredCoordinates | None, settings: Settings
) -> tuple[CoordinatesChosen, StoredCoordinates]:
    """The answer to a frame, and what is to be stored."""
    importance = drafted.importance
    if stored is None or _needs_new(stored, frame, settings):
        stored = drafted.new or _new_set(frame, importance, settings)
    answer = CoordinatesChosen(
        session_id=frame.session_id,
        gateway_id=frame.gateway_id,
        frame_id=frame.frame_id,
        coordinate_set_id=stored.coordinate_set_id,
        coords_bytes=stored.coords_bytes,
        footprint_bytes=stored.footprint_bytes,
        importance_width=frame.grid_width,
        importance_height=frame.grid_height,
        importance=importance_to_bytes(importance),
        model_version=frame.model_version,
        predicted_psnr_db=frame.predicted_psnr_db,
        received_at_secs=frame.received_at_secs,
        traceparent=frame.traceparent,
    )
    return answer, stored


def _importance(frame: FrameReconstructed, settings: ImportanceSettings) -> Map:
    """By the chosen method; by entropy where no trained model predicts an error."""
    if settings.method == "predicted_error" and frame.log_error is not None:
        return PredictedErrorImportanceCalculator(settings.epsilon)(frame.log_error)
    entropy = frame.entropy
    if entropy is None:
        return np.ones((frame.grid_height, frame.grid_width), np.float32)
    return AttentionEntropyImportanceCalculator(settings.epsilon)(entropy)


def _needs_new(stored: StoredCoordinates, frame: FrameReconstructed, settings: Settings) -> bool:
    """A late frame, claimed from a dead replica, must not replace a set drawn from a newer one."""
    if frame.frame_id < stored.last_update_frame_id:
        return False
    return not _still_fits(stored, frame, settings) or _is_due(
        frame, stored.last_update_frame_id, settings
    )


def _still_fits(stored: StoredCoordinates, frame: FrameReconstructed, settings: Settings) -> bool:
    """A resumed session may be another client's, or come with other wishes; new settings may come
    with another count."""
    return (
        (stored.width, stored.height) == (frame.width, frame.height)
        and stored.footprints == frame.footprints
        and stored.is_placed_evenly == frame.is_placed_evenly
        and stored.count == _sample_count(frame, settings)
    )


def _is_due(frame: FrameReconstructed, last_update_frame_id: int, settings: Settings) -> bool:
    return MaskUpdateScheduler(settings.mask_update).should_update(
        frame_id=frame.frame_id,
        last_update_frame_id=last_update_frame_id,
        predicted_psnr_db=frame.predicted_psnr_db,
    )


def _new_set(frame: FrameReconstructed, importance: Map, settings: Settings) -> StoredCoordinates:
    coords = _draw(frame, importance, settings)
    return StoredCoordinates(
        # From the frame's number: replicas need not agree, and no set is older than its frame.
        coordinate_set_id=chosen_set_id(frame.frame_id),
        last_update_frame_id=frame.frame_id,
        width=frame.width,
        height=frame.height,
        coords_bytes=pack_floats(coords[:, :2]),
        footprint_bytes=pack_footprints(coords[:, 2]),
        footprints=frame.footprints,
        is_placed_evenly=frame.is_placed_evenly,
    )


def _sample_count(frame: FrameReconstructed, settings: Settings) -> int:
    """What session_start_ack promised. Not frame.sample_count: one short frame would shrink
    the next set, and with it every frame after."""
    wanted = frame.wanted_samples or settings.sampling.default_sample_count
    return min(wanted, frame.width * frame.height)


def _draw(frame: FrameReconstructed, importance: Map, settings: Settings) -> Coords:
    return AdaptiveUVSampler(settings.sampling, footprints=frame.footprints).sample(
        NOTHING_KNOWN if frame.is_placed_evenly else importance,
        count=_sample_count(frame, settings),
        width=frame.width,
        height=frame.height,
        rng=_rng(settings.sampling.seed, frame),
    )


def _rng(seed: int, frame: FrameReconstructed) -> np.random.Generator:
    """Depends on the frame alone: a redelivered one gets the same answer."""
    digest = hashlib.sha256(f"{seed}/{frame.session_id}/{frame.frame_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))
