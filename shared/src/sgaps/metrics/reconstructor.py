"""What a reconstructor counts."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Counter, Gauge

MODEL_INFO = Gauge(
    "sgaps_model_info",
    "1 for each key with a checkpoint, by the version in force",
    ["checkpoint_key", "model_version"],
)
CHECKPOINT_REFUSED = Gauge(
    "sgaps_checkpoint_refused",
    "1 where the checkpoint in force of a key is refused, 0 where it is not",
    ["checkpoint_key"],
)
MODEL_RELOADS = Counter(
    "sgaps_model_reloads",
    "Checkpoints swapped in while serving, and looks at all of them that failed",
    ["outcome"],
)
WITHOUT_ROOM = Counter(
    "sgaps_frames_without_room",
    "Frames served by the general checkpoint, for their key's own found no room in memory",
)
VIEWS_ENCODED = Counter("sgaps_views_encoded", "Pictures made for people who look")

SWAPPED, FAILED = MODEL_RELOADS.labels("swapped"), MODEL_RELOADS.labels("failed")
_in_use: set[tuple[str, str]] = set()
_looked_at: set[str] = set()


def serve_models(versions: Mapping[str, str]) -> None:
    """Tell the models in use, key → version, and no longer those from before."""
    told = set(versions.items())
    for labels in told:
        MODEL_INFO.labels(*labels).set(1)
    for labels in _in_use - told:
        MODEL_INFO.remove(*labels)
    _in_use.clear()
    _in_use.update(told)


def refuse_checkpoints(refused: Mapping[str, bool]) -> None:
    """Tell of each key whether its checkpoint is refused, and no longer of keys from before.

    A state, not a count: what is refused at a start comes before anybody could see it count up.
    """
    for key, is_refused in refused.items():
        CHECKPOINT_REFUSED.labels(key).set(is_refused)
    for key in _looked_at - refused.keys():
        CHECKPOINT_REFUSED.remove(key)
    _looked_at.clear()
    _looked_at.update(refused)
