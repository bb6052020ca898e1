"""The AsyncAPI document of the gateway's sockets, made from the message classes themselves.

The forms in bytes are named in it and described in docs/protocol.md, which is for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal, TypeAlias, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from sgaps.errors import ErrorCode
from sgaps.protocol import binary_codec, json_codec
from sgaps.protocol.messages import (
    PROTOCOL_VERSION,
    ClientMessage,
    Error,
    FrameData,
    ServerMessage,
)
from sgaps.protocol.views import ViewHeader, ViewStart, ViewStatus

ASYNCAPI_VERSION = "3.0.0"
BYTES = "application/octet-stream"
IN_BYTES = ("frame_data", "keyframe", "uv_coordinates")
"""Messages that have a form in bytes as well."""

Json: TypeAlias = Any
Model: TypeAlias = type[BaseModel]

FROM_CLIENTS: tuple[Model, ...] = get_args(get_args(ClientMessage)[0])
TO_CLIENTS: tuple[Model, ...] = get_args(get_args(ServerMessage)[0])
FROM_VIEWERS: tuple[Model, ...] = (ViewStart,)
TO_VIEWERS: tuple[Model, ...] = (ViewStatus, Error)


@cache
def document() -> Mapping[str, Json]:
    """Channels, operations as the gateway sees them, messages and schemas. Not to be changed."""
    stream_says, stream_hears = _names(FROM_CLIENTS), _names(TO_CLIENTS)
    view_says, view_hears = _names(FROM_VIEWERS), [*_names(TO_VIEWERS), "view"]
    return {
        "asyncapi": ASYNCAPI_VERSION,
        "info": {
            "title": "SGAPS-MAE gateway, sockets",
            "version": str(PROTOCOL_VERSION),
            "description": "What games send and hear, and what viewers hear. Subprotocols: "
            f"{binary_codec.SUBPROTOCOL}, in which the bulky messages are bytes, and "
            f"{json_codec.SUBPROTOCOL}, the default. Limits, errors and every byte: "
            "docs/protocol.md.",
        },
        "defaultContentType": "application/json",
        "channels": {
            "stream": {"address": "/ws/stream", **_channel([*stream_says, *stream_hears])},
            "view": {
                "address": "/ws/view/{session_id}",
                "parameters": {"session_id": {"description": "A session of this gateway."}},
                **_channel([*view_says, *view_hears]),
            },
        },
        "operations": {
            "fromClient": _operation("receive", "stream", stream_says),
            "toClient": _operation("send", "stream", stream_hears),
            "fromViewer": _operation("receive", "view", view_says),
            "toViewer": _operation("send", "view", view_hears),
        },
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _names(models: Iterable[Model]) -> list[str]:
    """Of the messages, in both forms where there are two."""
    types = [model.model_fields["type"].default for model in models]
    return [*types, *(f"{name}_bytes" for name in types if name in IN_BYTES)]


def _channel(names: Iterable[str]) -> dict[str, Json]:
    messages = {name: {"$ref": f"#/components/messages/{name}"} for name in names}
    return {"messages": messages, "bindings": {"ws": {"method": "GET"}}}


def _operation(
    action: Literal["send", "receive"], channel: str, names: Iterable[str]
) -> dict[str, Json]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names],
    }


def _messages() -> dict[str, Json]:
    models = (*FROM_CLIENTS, *TO_CLIENTS, *FROM_VIEWERS, *TO_VIEWERS)
    json_forms = {
        model.model_fields["type"].default: {
            "payload": {"$ref": f"#/components/schemas/{model.__name__}"}
        }
        for model in models
    }
    byte_forms = {f"{name}_bytes": _in_bytes(name) for name in IN_BYTES}
    view = {
        **_in_bytes("view"),
        "x-header": {"$ref": f"#/components/schemas/{ViewHeader.__name__}"},
    }
    return {**json_forms, **byte_forms, "view": view}


def _in_bytes(name: str) -> dict[str, Json]:
    described = f"{name} in bytes, offset by offset: docs/protocol.md"
    return {
        "contentType": BYTES,
        "payload": {"type": "string", "format": "binary", "description": described},
    }


def _schemas() -> dict[str, Json]:
    """What the gateway takes, and what it says, where defaults are always written out."""
    taken = [(model, "validation") for model in (*FROM_CLIENTS, *FROM_VIEWERS)]
    said = [(model, "serialization") for model in (*TO_CLIENTS, *TO_VIEWERS, ViewHeader)]
    _, made = models_json_schema(
        [*dict.fromkeys([*taken, *said])],  # type: ignore[list-item]  # its literals are str here
        ref_template="#/components/schemas/{model}",
    )
    schemas: dict[str, Json] = _portable(made["$defs"])
    for model in {*FROM_CLIENTS, *TO_CLIENTS, *FROM_VIEWERS, *TO_VIEWERS}:
        # It has a default in Python only: without it nobody knows what a message is.
        schemas[model.__name__]["required"] = ["type", *schemas[model.__name__].get("required", ())]
    # To a client it is any text: a newer server may know more.
    schemas[Error.__name__]["properties"]["code"]["enum"] = [*ErrorCode]
    for form in schemas[FrameData.__name__]["properties"]["pixels"]["anyOf"]:
        form["minItems"] = 1  # which the session checks, as it does their number
    return schemas


def _portable(schema: Json) -> Json:
    """In the draft 7 that AsyncAPI is on, with its patterns."""
    if isinstance(schema, list):
        return [_portable(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    told = {name: _portable(part) for name, part in schema.items()}
    if isinstance(pattern := told.get("pattern"), str):
        told["pattern"] = pattern.replace(r"\A", "^").replace(r"\z", "$")
    if "prefixItems" in told:
        told["items"] = told.pop("prefixItems")
    return told
