"""What the trainer counts."""

from __future__ import annotations

from math import nan

from prometheus_client import Counter, Gauge

TRAINING_RUNS = Counter("sgaps_training_runs", "Training runs by outcome", ["outcome"])
TRAINING_RUNNING = Gauge("sgaps_training_running", "1 while a run goes on")
TRAINING_STEPS = Counter("sgaps_training_steps", "Steps of all runs")
TRAINING_LOSS = Gauge("sgaps_training_loss", "Loss of the newest step; NaN before the first")
VAL_PSNR_DB = Gauge(
    "sgaps_training_val_psnr_db",
    "PSNR on held-out sessions at the end of the last run; nothing before the first",
    ["model"],
)
PUBLISHED_AT_SECS = Gauge(
    "sgaps_checkpoint_published_timestamp_seconds",
    "When this process last published a checkpoint; 0 before the first",
)
FREE_BYTES = Gauge(
    "sgaps_checkpoints_free_bytes", "Free space of the checkpoints' file system; NaN if unknown"
)

PUBLISHED, KEPT_CHAMPION, FAILED = (
    TRAINING_RUNS.labels(outcome) for outcome in ("published", "kept_champion", "failed")
)
TRAINING_LOSS.set(nan)
