"""Both codecs: what is legal survives the way, and every other input is a typed refusal."""

from __future__ import annotations

import base64
import json
import platform
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostile.fuzz import TARGETS, run_fuzz
from hostile.targets import (
    Fuzzed,
    binary_of_server,
    json_of_client,
    json_of_server,
    keyframe,
    outcome_of,
    targets,
)
from sgaps.errors import ErrorCode, ProtocolError
from sgaps.protocol import json_codec
from sgaps.protocol.bounds import MAX_STATE_DIM
from sgaps.protocol.content import CoordinateSet, SampledFrame, WholeFrame
from sgaps.protocol.messages import (
    MAX_SET_ID,
    ClientInfo,
    FrameData,
    Heartbeat,
    HeartbeatAck,
    Keyframe,
    Resolution,
    SessionStart,
    SessionStartAck,
    UvCoordinates,
)
from sgaps.protocol.pixels import DECIMALS
from strategies import coordinate_sets, floats, frames, ids

FUZZED = targets()
ROUNDED = 0.5 * 10**-DECIMALS + 1e-7

names = st.from_regex(r"\A[A-Za-z0-9_-]{1,64}\Z")
short_texts = st.text(max_size=128)
sides = st.integers(1, 8192)
client_messages = st.builds(
    SessionStart,
    checkpoint_key=names,
    resolution=st.builds(Resolution, width=sides, height=sides),
    max_state_dim=st.integers(0, MAX_STATE_DIM),
    auth_token=st.none() | short_texts,
    client=st.none()
    | st.builds(
        ClientInfo,
        name=short_texts,
        version=short_texts,
        features=st.lists(short_texts, max_size=32),
    ),
    resume_session_id=st.none() | names,
) | st.builds(Heartbeat, timestamp=floats)
server_messages = st.builds(
    SessionStartAck,
    session_id=names,
    checkpoint_loaded=st.booleans(),
    sample_count=st.integers(0, 65535),
    max_state_dim=st.integers(0, MAX_STATE_DIM),
    target_fps=st.floats(1e-3, 1e4),
    model_version=short_texts,
    coordinate_set_id=st.integers(0, MAX_SET_ID),
    keyframe_interval=st.integers(0, 10**6),
    resumed=st.booleans(),
    last_frame_id=st.just(-1) | ids,
    features=st.lists(short_texts, max_size=3),
) | st.builds(
    HeartbeatAck,
    timestamp=floats,
    server_time=floats,
    last_recorded_frame_id=st.just(-1) | ids,
    target_fps=st.floats(1e-3, 1e4),
)


@given(client_messages)
def test_control_messages_of_a_client_survive(message: SessionStart | Heartbeat) -> None:
    assert json_codec.decode_client_message(json_codec.encode(message)) == message


@given(server_messages)
def test_control_messages_of_a_server_survive(message: SessionStartAck | HeartbeatAck) -> None:
    assert json_codec.decode_server_message(json_codec.encode(message)) == message


@given(frames())
def test_a_frame_survives_json_but_for_its_decimals(frame: SampledFrame) -> None:
    message = json_codec.decode_client_message(json_codec.encode_frame(frame))
    assert isinstance(message, FrameData)
    read = json_codec.sampled_frame(message)
    np.testing.assert_allclose(read.samples, frame.samples, atol=ROUNDED)
    np.testing.assert_array_equal(read.state, frame.state)
    for name in ("frame_id", "coordinate_set_id", "resolution", "timestamp"):
        assert getattr(read, name) == getattr(frame, name)


@given(coordinate_sets())
def test_coordinates_survive_json_but_for_their_decimals(chosen: CoordinateSet) -> None:
    message = json_codec.decode_server_message(json_codec.encode_coordinates(chosen))
    assert isinstance(message, UvCoordinates)
    read = json_codec.coordinate_set(message)
    np.testing.assert_allclose(read.coords, chosen.coords, atol=ROUNDED)
    assert read.footprints == (chosen.footprints and len(chosen.coords) > 0)
    for name in ("frame_id", "coordinate_set_id", "importance", "model_version"):
        assert getattr(read, name) == getattr(chosen, name)
    assert read.predicted_psnr_db == chosen.predicted_psnr_db


@given(ids, st.sampled_from(["png", "jpeg"]), st.binary(max_size=99))
def test_a_keyframe_survives_json(frame_id: int, encoding: Any, data: bytes) -> None:
    whole = WholeFrame(frame_id=frame_id, encoding=encoding, data=data)
    message = json_codec.decode_client_message(json_codec.encode_keyframe(whole))
    assert isinstance(message, Keyframe)
    assert json_codec.whole_frame(message) == whole


@pytest.mark.parametrize("fuzzed", FUZZED.values(), ids=FUZZED.keys())
def test_the_seeds_of_a_target_are_taken(fuzzed: Fuzzed) -> None:
    outcomes = [outcome_of(fuzzed.target, data) for data in fuzzed.seeds]
    assert outcomes.count("taken") >= len(outcomes) / 2


@pytest.mark.parametrize("fuzzed", FUZZED.values(), ids=FUZZED.keys())
@given(data=st.data())
def test_a_message_with_wrong_bytes_is_taken_or_refused(
    fuzzed: Fuzzed, data: st.DataObject
) -> None:
    raw = bytearray(data.draw(st.sampled_from(fuzzed.seeds)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        removed = data.draw(st.integers(0, 4))
        raw[at : at + removed] = data.draw(st.binary(max_size=8))
    outcome_of(fuzzed.target, bytes(raw))  # anything but a refusal comes through


PNG_THAT_ENDS_IN_A_PROFILE = (
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAMAQAAAABDnAAsAAAALUlEQVR4nGOsusCw9CajmgvTlheMLpKMq74xMexjWunN"
    "dJWRYbUog9cpxjBGAOYlC4w2XdaTAAAAAGlDQ1BJdFJOU0VORK5CYII="
)
MINUS_ZERO_DB = "U0cBA///////////AQAAAAAAAAAAAACAAgAAAAAAAAQAIP/fzEwos25vbmU="
FOUND = [
    (keyframe, PNG_THAT_ENDS_IN_A_PROFILE, "bad_keyframe"),
    (binary_of_server, MINUS_ZERO_DB, "bad_message"),
]


@pytest.mark.parametrize(("target", "data", "outcome"), FOUND)
def test_what_fuzzing_found_is_refused(target: Any, data: str, outcome: str) -> None:
    assert outcome_of(target, base64.b64decode(data)) == outcome


def frame_of(**fields: object) -> bytes:
    frame = {
        "type": "frame_data",
        "frame_id": 3,
        "pixels": [[0.5, 0.25, 1]],
        "state_vector": [],
        "resolution": [320, 240],
        "timestamp": 1.5,
    }
    return json.dumps({**frame, **fields}).encode()


def keyframe_of(data: str) -> bytes:
    whole = {"type": "keyframe", "frame_id": 1, "encoding": "png", "data": data}
    return json.dumps(whole).encode()


@pytest.mark.parametrize(
    ("raw", "outcome"),
    [
        (b'{"type":"heartbeat","timestamp":' + b"1" * 5000 + b"}", "bad_message"),
        (b'{"type":"heartbeat","timestamp":1e999999999}', "bad_message"),
        (b'{"type":"heartbeat","timestamp":-Infinity}', "bad_json"),
        (b'{"type":"heartbeat","timestamp":01}', "bad_json"),
        (b'{"type":"heartbeat","timestamp":1,}', "bad_json"),
        (b'{"type":"heartbeat","timestamp":1}}', "bad_json"),
        (b'{"type":"heartbeat"/**/,"timestamp":1}', "bad_json"),
        (b"\xef\xbb\xbf" + b'{"type":"heartbeat","timestamp":1}', "bad_json"),
        (b'{"type":"heart\nbeat","timestamp":1}', "bad_json"),
        (b'{"type":"heartbeat\\u0000","timestamp":1}', "unknown_type"),
        (b'{"type":"\\uD800","timestamp":1}', "bad_json"),
        (
            b'{"type":"heartbeat","timestamp":1,"x":' + b"[" * 10**5 + b"]" * 10**5 + b"}",
            "bad_json",
        ),
        (b'{"type":"heartbeat","timestamp":"\xed\xa0\x80"}', "bad_json"),
        (b'{"type":"' + b"x" * 10**6 + b'"}', "unknown_type"),
        (b'{"type":"heartbeat","timestamp":1,"' + b"x" * 10**6 + b'":1}', "bad_message"),
        (frame_of(state_vector=[1e39]), "bad_message"),
        (frame_of(state_vector=[3.4028236e38]), "bad_message"),
        (frame_of(state_vector=[3.4028235e38]), "taken"),
        (frame_of(pixels=[[0, 0, 0]] * 65536), "bad_message"),
        (frame_of(frame_id=10**400), "bad_message"),
        (frame_of(pixels=[{"x" * 10**6: 0}]), "bad_message"),
        (keyframe_of("\u00e4"), "bad_keyframe"),
        (keyframe_of("AAA"), "bad_keyframe"),
        (keyframe_of("AA\nA="), "bad_keyframe"),
    ],
)
def test_tricks_with_json_are_refused_with_a_short_reason(raw: bytes, outcome: str) -> None:
    assert outcome_of(json_of_client, raw) == outcome


def test_of_keys_that_come_twice_the_last_one_counts_and_is_checked() -> None:
    """The parser cannot tell; no second parser behind it could see the other one."""
    twice = b'{"type":"heartbeat","timestamp":1,"timestamp":2}'
    assert json_codec.decode_client_message(twice) == Heartbeat(timestamp=2)
    with pytest.raises(ProtocolError) as caught:
        json_codec.decode_client_message(b'{"type":"heartbeat","timestamp":1,"timestamp":"2"}')
    assert caught.value.code is ErrorCode.BAD_MESSAGE


@pytest.mark.parametrize("pixel", [[2, 2, 2], {"u": 2}, [], "x", None])
def test_many_wrong_pixels_are_refused_for_the_first_one(pixel: object) -> None:
    """It used to cost many times what it costs to read as many good ones."""
    good_secs = cpu_secs_of([[0.5, 0.5, 0.5]] * 60_000, "taken")
    assert cpu_secs_of([pixel] * 60_000, "bad_message") < good_secs


def cpu_secs_of(pixels: list[Any], outcome: str) -> float:
    raw = frame_of(pixels=pixels)
    started_at_secs = time.process_time()
    assert outcome_of(json_of_client, raw) == outcome
    return time.process_time() - started_at_secs


@pytest.mark.parametrize("size", [(2, 2), (10**9, 1), (0, 1), (-1, -1)])
def test_a_server_that_lies_about_an_importance_map_is_refused(size: tuple[int, int]) -> None:
    answer = {
        "type": "uv_coordinates",
        "frame_id": 1,
        "coords": [],
        "importance_map": {"width": size[0], "height": size[1], "data": "AP8="},
        "coordinate_set_id": 1,
        "model_version": "v",
    }
    assert outcome_of(json_of_server, json.dumps(answer).encode()) == "bad_message"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="there is no other wheel of atheris")
def test_a_short_run_of_the_fuzzer_finds_nothing() -> None:
    report = run_fuzz(inputs=6 * 2000)
    print(*report.targets, sep="\n")
    assert report.crashes == []
    assert report.inputs == 6 * 2000
    assert set(TARGETS) == set(FUZZED)
    assert all(len(target.outcomes) > 1 for target in report.targets)
