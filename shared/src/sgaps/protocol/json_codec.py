"""The JSON form of the protocol: bytes in, messages out. Knows no sockets."""

from __future__ import annotations

from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from sgaps.errors import ErrorCode, ProtocolError
from sgaps.protocol.messages import ClientMessage, FromClient, FromServer, ServerMessage

SUBPROTOCOL = "sgaps.v1.json"

_client_messages: TypeAdapter[ClientMessage] = TypeAdapter(ClientMessage)
_server_messages: TypeAdapter[ServerMessage] = TypeAdapter(ServerMessage)

M = TypeVar("M")

_CODES = {
    "json_invalid": ErrorCode.BAD_JSON,
    "string_unicode": ErrorCode.BAD_JSON,
    "union_tag_invalid": ErrorCode.UNKNOWN_TYPE,
    "union_tag_not_found": ErrorCode.UNKNOWN_TYPE,
}


def encode(message: FromClient | FromServer) -> str:
    """Write one message; absent optional fields of a client stay absent."""
    return message.model_dump_json(exclude_none=isinstance(message, FromClient))


def decode_client_message(raw: str | bytes) -> ClientMessage:
    """Read what a client sent. Raises ProtocolError naming the first field that is wrong."""
    return _decode(_client_messages, raw)


def decode_server_message(raw: str | bytes) -> ServerMessage:
    """Read what the server sent. Raises ProtocolError."""
    return _decode(_server_messages, raw)


def _decode(adapter: TypeAdapter[M], raw: str | bytes) -> M:
    try:
        return adapter.validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "message"
        code = _CODES.get(first["type"], ErrorCode.BAD_MESSAGE)
        raise ProtocolError(code, f"{where}: {first['msg']}") from error
    except UnicodeEncodeError as error:
        raise ProtocolError(ErrorCode.BAD_JSON, "lone surrogate in the text") from error
