"""Every error this project raises on purpose, as one tree; services and commands add to it.

SgapsError
├── SettingsError            a configuration key or value is wrong; the message names it
├── ProtocolError            a client broke the WebSocket protocol; carries the wire code
├── BusError                 the message bus cannot do what was asked
│   ├── BusUnavailable       no connection, or a time-out: try again
│   ├── BusFull              the broker refuses writes (memory, disk): slow down
│   └── BusRefused           the broker does not let this user in, or not do that
├── MessageError             a stream entry cannot be decoded
├── RecordingError           an HDF5 segment cannot be written or read
│   ├── RecordingCorrupt     the file is not a readable segment
│   └── StorageFails         nothing can be recorded at all for now: wait
│       └── DiskFull         below the free-space watermark, or no space left at all
├── CheckpointError          a checkpoint cannot be used or written
│   ├── CheckpointNotFound   there is none for this key or version
│   └── CheckpointRejected   torn, wrong hash, wrong shapes, non-finite, or worse
│       └── CheckpointUnreadable  not now: no descriptor, memory or device for it
└── SourceError              a game or file that frames should come from cannot be opened
"""

from __future__ import annotations

from enum import StrEnum


class SgapsError(Exception):
    """Base of all errors raised by this project."""


class SettingsError(SgapsError):
    """A configuration key or value is wrong. The message names it and its cure."""


class ErrorCode(StrEnum):
    """The `code` of an `error` message on the WebSocket. Names are part of the protocol."""

    BAD_JSON = "bad_json"
    BAD_MESSAGE = "bad_message"
    UNKNOWN_TYPE = "unknown_type"
    MESSAGE_TOO_LARGE = "message_too_large"
    NO_SESSION = "no_session"
    SESSION_EXISTS = "session_exists"
    SESSION_NOT_FOUND = "session_not_found"
    SESSION_MISMATCH = "session_mismatch"
    SESSION_TAKEN_OVER = "session_taken_over"
    TOO_MANY_SESSIONS = "too_many_sessions"
    UNAUTHORIZED = "unauthorized"
    ORIGIN_REFUSED = "origin_refused"
    START_TIMEOUT = "start_timeout"
    FRAME_ID_BACKWARDS = "frame_id_backwards"
    RESOLUTION_MISMATCH = "resolution_mismatch"
    TOO_MANY_SAMPLES = "too_many_samples"
    STATE_TOO_LONG = "state_too_long"
    BAD_KEYFRAME = "bad_keyframe"
    UNKNOWN_SET = "unknown_set"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    SHUTTING_DOWN = "shutting_down"
    INTERNAL = "internal"


class ProtocolError(SgapsError):
    """A client broke the protocol.

    `retry_after_secs` is set where trying again later is the cure.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        retry_after_secs: float | None = None,
    ) -> None:
        super().__init__(f"{code.value}: {message}")
        self.code = code
        self.message = message
        self.retry_after_secs = retry_after_secs


class BusError(SgapsError):
    """The message bus cannot do what was asked."""


class BusUnavailable(BusError):
    """No connection to the broker, or it did not answer in time."""


class BusFull(BusError):
    """The broker refuses writes because its memory or its disk is full."""


class BusRefused(BusError):
    """Wrong user or password, or a command or key that this user may not use."""


class MessageError(SgapsError):
    """A stream entry cannot be decoded into its message class."""


class RecordingError(SgapsError):
    """An HDF5 segment cannot be written or read."""


class RecordingCorrupt(RecordingError):
    """The file is not a readable segment."""


class StorageFails(RecordingError):
    """Nothing can be written below the recordings folder: read-only, or its disk is gone.

    No frame's or session's fault: try again later.
    """


class DiskFull(StorageFails):
    """Free space fell below the watermark, or there is none left: try again later."""


class CheckpointError(SgapsError):
    """A checkpoint cannot be used or written."""


class CheckpointNotFound(CheckpointError):
    """There is no checkpoint for this key or version."""


class CheckpointRejected(CheckpointError):
    """The checkpoint is torn, tampered with, of the wrong shape, non-finite, or worse."""


class CheckpointUnreadable(CheckpointRejected):
    """Not now, for lack of a descriptor, of memory or of a device: it may be as good as ever."""


class SourceError(SgapsError):
    """A game or file that frames should come from cannot be opened or read."""
