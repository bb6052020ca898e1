"""What a reconstructor counts."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Counter, Gauge

MODEL_INFO = Gauge(
    "sgaps_model_info", "1 for each model in use", ["checkpoint_key", "model_version"]
)
MODEL_RELOADS = Counter(
    "sgaps_model_reloads", "Checkpoints swapped in while serving, and those refused", ["outcome"]
)
VIEWS_ENCODED = Counter("sgaps_views_encoded", "Pictures made for people who look")

SWAPPED, REFUSED = MODEL_RELOADS.labels("swapped"), MODEL_RELOADS.labels("refused")
_in_use: set[tuple[str, str]] = set()


def serve_models(versions: Mapping[str, str]) -> None:
    """Tell the models in use, key → version, and no longer those from before."""
    told = set(versions.items())
    for labels in told:
        MODEL_INFO.labels(*labels).set(1)
    for labels in _in_use - told:
        MODEL_INFO.remove(*labels)
    _in_use.clear()
    _in_use.update(told)
