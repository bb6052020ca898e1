"""What the recorder counts of its own work; what belongs to the broker is in `broker`."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

FRAMES_RECORDED = Counter("sgaps_frames_recorded", "Clients' frames on disk, fsynced")
RECORDED_BYTES = Counter("sgaps_recorded_bytes", "Bytes of recorded frames")
FSYNC_AT_SECS = Gauge(
    "sgaps_recorder_fsync_timestamp_seconds", "When frames were last fsynced; 0 before the first"
)
TRIMMING_REFUSED = Gauge(
    "sgaps_trimming_refused", "1 while the broker refuses to trim the streams of frames"
)
WAITING = Gauge("sgaps_recorder_waiting", "1 while it waits for disk space or the broker")
FREE_BYTES = Gauge(
    "sgaps_recordings_free_bytes", "Free space of the recordings' file system; NaN if unknown"
)
SEGMENTS_OPEN = Gauge("sgaps_segments_open", "Segments that are being written")
SEGMENTS_SEALED = Counter("sgaps_segments_sealed", "Segments sealed, recovered ones too")
SEGMENTS_DELETED = Counter("sgaps_segments_deleted", "Trained segments that were too old or many")
DELETED_BYTES = Counter("sgaps_deleted_bytes", "Bytes of the segments that were deleted")
