"""What a client hears, read from bytes. No I/O."""

from __future__ import annotations

from sgaps.errors import ErrorCode, ProtocolError
from sgaps.protocol import binary_codec, json_codec
from sgaps.protocol.content import CoordinateSet
from sgaps.protocol.messages import Error, FromServer, UvCoordinates


def decoded(raw: str | bytes) -> FromServer | CoordinateSet:
    """Control messages are JSON in either form. Raises ProtocolError."""
    if isinstance(raw, bytes):
        return binary_codec.decode_server_message(raw)
    message = json_codec.decode_server_message(raw)
    if isinstance(message, UvCoordinates):
        return json_codec.coordinate_set(message)
    return message


def is_gone(reply: object) -> bool:
    """Whether the server forgot the session that was to be resumed."""
    return isinstance(reply, Error) and reply.code == ErrorCode.SESSION_NOT_FOUND


def known_code(error: Error) -> ErrorCode:
    """One of a newer server is its own affair."""
    return ErrorCode(error.code) if error.code in set(ErrorCode) else ErrorCode.INTERNAL


def refusal(reply: object) -> ProtocolError:
    """What to raise for an answer that ends a connection."""
    if not isinstance(reply, Error):
        return ProtocolError(ErrorCode.BAD_MESSAGE, f"unexpected {type(reply).__name__}")
    return ProtocolError(known_code(reply), reply.message, retry_after_secs=reply.retry_after_secs)
