"""The document of the sockets, as the gateway serves it, beside what really goes over them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from jsonschema import Draft7Validator

from integration.conftest import RunningGateway
from integration.talk import START, chosen, frame, heartbeat, receive, send
from paths import GOLDEN
from sgaps.protocol import binary_codec, json_codec
from sgaps.protocol.binary_codec import ValuesOfFrame
from sgaps.protocol.content import SampledFrame, WholeFrame

TYPES = {
    "/ws/stream": {
        *("session_start", "frame_data", "keyframe", "heartbeat"),
        *("session_start_ack", "uv_coordinates", "heartbeat_ack", "error"),
        *("frame_data_bytes", "keyframe_bytes", "uv_coordinates_bytes"),
    },
    "/ws/view/{session_id}": {"view_start", "view_status", "view", "error"},
}

Json = dict[str, Any]


@pytest.fixture
async def document(gateway: RunningGateway) -> Json:
    async with httpx.AsyncClient() as http:
        reply = await http.get(f"{gateway.http_url}/asyncapi.json")
    assert reply.headers["Content-Type"] == "application/json"
    served: Json = reply.json()
    return served


def troubles(document: Json, message: Json) -> list[str]:
    """What the schema of its type has against a message."""
    schema = document["components"]["messages"][message["type"]]["payload"]
    return [error.message for error in Draft7Validator({**document, **schema}).iter_errors(message)]


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from (each for name, each in part.items() if name == "$ref")
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from references(inner)


def pointed_at(document: Json, reference: str) -> Any:
    found: Any = document
    for name in reference.removeprefix("#/").split("/"):
        found = found[name.replace("~1", "/").replace("~0", "~")]
    return found


async def test_every_message_is_in_it_and_every_reference_leads_somewhere(document: Json) -> None:
    assert document["asyncapi"] == "3.0.0"
    channels = document["channels"].values()
    assert {each["address"]: set(each["messages"]) for each in channels} == TYPES
    found = list(references(document))
    assert len(found) > 40
    assert all(pointed_at(document, reference) for reference in found)
    for schema in document["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)
    said = {name for one in document["operations"].values() for name in map(last, one["messages"])}
    assert said == set().union(*TYPES.values())


def last(reference: Json) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def golden() -> list[Json]:
    listed: list[Json] = json.loads((GOLDEN / "messages.json").read_text())
    return listed


@pytest.mark.parametrize("message", golden(), ids=lambda message: str(message["file"]))
async def test_golden_messages_are_as_it_says(document: Json, message: Json) -> None:
    """In their JSON form: what the bytes say, written by our codec."""
    written = json.loads(_in_json((GOLDEN / message["file"]).read_bytes(), message["type"]))
    assert written["type"] == message["type"]
    assert troubles(document, written) == []
    assert troubles(document, {**written, "frame_id": -2})
    assert troubles(document, {name: it for name, it in written.items() if name != "frame_id"})


def _in_json(data: bytes, kind: str) -> str:
    if kind == "uv_coordinates":
        return json_codec.encode_coordinates(binary_codec.decode_server_message(data))
    read = binary_codec.decode_client_message(data)
    if isinstance(read, WholeFrame):
        return json_codec.encode_keyframe(read)
    assert isinstance(read, ValuesOfFrame)
    return json_codec.encode_frame(_placed(read))


def _placed(values: ValuesOfFrame) -> SampledFrame:
    """Anywhere: the set that a golden frame names is not among the golden messages."""
    count = len(values.values)
    return values.at(np.tile(np.array([0.5, 0.5, 1], np.float32), (count, 1)))


async def test_a_real_session_says_what_it_says(gateway: RunningGateway, document: Json) -> None:
    """A frame, the same again, which is refused, and an answer."""
    sent: list[Json] = [START, frame(0), frame(0)]
    heard = []
    async with gateway.connect() as socket:
        for message in sent:
            await send(socket, message)
        heard += [await receive(socket), await receive(socket)]
        session_id = heard[0]["session_id"]
        heard.append(await receive(socket))
        await gateway.bus.publish(chosen(session_id, 0))
        heard.append(await receive(socket))
        heard.append(await heartbeat(socket))
    kinds = [message["type"] for message in heard]
    assert kinds == [
        "session_start_ack",
        "uv_coordinates",
        "error",
        "uv_coordinates",
        "heartbeat_ack",
    ]
    for message in (*sent, *heard):
        assert troubles(document, message) == [], message["type"]


async def test_a_message_is_told_by_its_type_and_an_error_by_its_code(document: Json) -> None:
    """What programs that write classes from the document go by."""
    for name, message in document["components"]["messages"].items():
        if "$ref" in message["payload"]:
            schema = pointed_at(document, message["payload"]["$ref"])
            assert schema["required"].count("type") == 1, name
    error = {"type": "error", "code": "overloaded", "message": "full"}
    assert troubles(document, error) == []
    assert troubles(document, {**error, "code": "no_such_code"})


async def test_a_frame_has_a_pixel_at_least(document: Json) -> None:
    assert troubles(document, frame(0)) == []
    assert troubles(document, frame(0, pixels=[]))
