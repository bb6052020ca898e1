"""The JSON protocol: literal bytes in, messages out, and every refusal typed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from markdown_files import blocks, guide
from sgaps.errors import ErrorCode, ProtocolError
from sgaps.protocol.ids import is_valid_id
from sgaps.protocol.json_codec import (
    decode_client_message,
    decode_server_message,
    encode,
)
from sgaps.protocol.messages import (
    FrameData,
    Heartbeat,
    HeartbeatAck,
    Keyframe,
    Resolution,
    SessionStart,
    UvCoordinates,
)
from sgaps.protocol.pixels import Footprint, samples_of
from sgaps.sampling.footprints import FOOTPRINTS_PX

FRAME = (
    '{"type":"frame_data","frame_id":3,"pixels":[[0.5,0.25,1],[0,1,0.125]],'
    '"state_vector":[1,-999.0],"resolution":[320,240],"timestamp":1.5}'
)


def changed(**fields: object) -> str:
    return json.dumps({**json.loads(FRAME), **fields})


def code_of(raw: str | bytes) -> ErrorCode:
    with pytest.raises(ProtocolError) as caught:
        decode_client_message(raw)
    return caught.value.code


def test_a_frame_is_read_from_literal_bytes() -> None:
    frame = decode_client_message(FRAME)
    assert isinstance(frame, FrameData)
    expected = np.array([[0.5, 0.25, 1, 1], [0, 1, 0.125, 1]], np.float32)
    np.testing.assert_array_equal(frame.pixels, expected)
    assert frame.resolution == Resolution(width=320, height=240)
    assert frame.state_vector == [1.0, -999.0]


def test_the_session_of_the_documentation_is_one() -> None:
    (told,) = [block for block in blocks(guide("protocol")) if block.language == "json"]
    said: list[str] = []
    for line in told.lines:
        who, _, rest = line.partition(" ")
        message, end = json.JSONDecoder().raw_decode(rest)
        assert not rest[end:].strip() or rest[end:].strip().startswith("#")
        read = {"→": decode_client_message, "←": decode_server_message}[who](rest[:end])
        assert message.keys() <= json.loads(encode(read)).keys()
        said.append(message["type"])
    assert len(set(said)) == 7
    assert said[0] == said[-1] == "session_start"


def test_both_forms_of_pixels_and_resolution_mean_the_same() -> None:
    long_form = changed(
        pixels=[{"u": 0.5, "v": 0.25, "value": 1}, {"u": 0, "v": 1, "value": 0.125}],
        resolution={"width": 320, "height": 240},
    )
    short, long = decode_client_message(FRAME), decode_client_message(long_form)
    assert isinstance(short, FrameData)
    assert isinstance(long, FrameData)
    np.testing.assert_array_equal(short.pixels, long.pixels)
    assert short.resolution == long.resolution


@pytest.mark.parametrize("footprint", [1, 2, 64])
def test_a_pixel_may_be_the_mean_of_a_square(footprint: int) -> None:
    pixels = [[0.5, 0.25, 1, footprint], [0, 1, 0.125, 1]]
    names = ("u", "v", "value", "footprint")
    objects = [dict(zip(names, pixel, strict=True)) for pixel in pixels]
    for form in (pixels, objects):
        frame = decode_client_message(changed(pixels=form))
        assert isinstance(frame, FrameData)
        np.testing.assert_array_equal(frame.pixels, np.array(pixels, np.float32))


@pytest.mark.parametrize("footprint", [0, -1, 3, 128, 1.5, True, None, "2", 10**30])
def test_another_footprint_is_refused(footprint: object) -> None:
    assert code_of(changed(pixels=[[0.5, 0.25, 1, footprint]])) is ErrorCode.BAD_MESSAGE


def test_json_has_one_kind_of_number() -> None:
    frame = decode_client_message(changed(pixels=[[0, 1, 1.0, 2.0], [0.0, 1.0, 1, 1]]))
    assert isinstance(frame, FrameData)
    assert frame.pixels.tolist() == [[0, 1, 1, 2], [0, 1, 1, 1]]


rows_of_anything = st.lists(
    st.lists(
        st.sampled_from([*FOOTPRINTS_PX, 0, 0.5, 1e-9, 3, -1e-9, 2**70, "],[", None, True, [0]]),
        min_size=2,
        max_size=5,
    )
)
rows_of_pixels = st.lists(st.tuples(*[st.floats(0, 1)] * 3)) | st.lists(
    st.tuples(*[st.floats(0, 1)] * 3, st.sampled_from(FOOTPRINTS_PX))
)


@given(rows_of_anything | rows_of_pixels, st.sampled_from([(",", ":"), (" ,\n", ":")]))
def test_rows_are_taken_if_each_is_a_pixel_and_all_are_alike(
    rows: list[list[object]] | list[tuple[float, ...]], separators: tuple[str, str]
) -> None:
    raw = json.dumps(rows, separators=separators)
    if all(is_pixel(row) for row in rows) and len({len(row) for row in rows}) < 2:
        points = [(*row, 1)[:4] for row in rows]
        expected = np.array(points, np.float32).reshape(-1, 4)
        np.testing.assert_array_equal(samples_of(msgspec.Raw(raw)), expected)
    else:
        with pytest.raises(msgspec.DecodeError):
            samples_of(msgspec.Raw(raw))


def is_pixel(row: Sequence[object]) -> bool:
    *units, side = row if len(row) == 4 else (*row, 1)
    in_range = [type(unit) in (int, float) and 0 <= unit <= 1 for unit in units]  # type: ignore[operator]
    return in_range == [True] * 3 and type(side) is int and side in FOOTPRINTS_PX


def test_pixels_of_one_message_have_one_form() -> None:
    mixed = [[0.5, 0.25, 1, 2], [0, 1, 0.125]]
    assert code_of(changed(pixels=mixed)) is ErrorCode.BAD_MESSAGE
    assert code_of(changed(pixels=mixed[::-1])) is ErrorCode.BAD_MESSAGE


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("{", ErrorCode.BAD_JSON),
        ("", ErrorCode.BAD_JSON),
        (b"\xff\xfe", ErrorCode.BAD_JSON),
        ("[" * 100_000, ErrorCode.BAD_MESSAGE),
        ('{"type":' + "[" * 100_000, ErrorCode.BAD_JSON),
        ('{"type":"heartbeat","timestamp":"\ud800"}', ErrorCode.BAD_JSON),
        ('{"type":"heartbeat","\\ud800":1}', ErrorCode.BAD_JSON),
        (FRAME.replace('"pixels":', '"pixels":\ufeff'), ErrorCode.BAD_JSON),
        (FRAME.replace("0.125", "NaN"), ErrorCode.BAD_JSON),
        (FRAME.replace("0.125", "1e400"), ErrorCode.BAD_MESSAGE),
        (FRAME.replace("1.5", "Infinity"), ErrorCode.BAD_JSON),
        (FRAME.replace("-999.0", "NaN"), ErrorCode.BAD_JSON),
        ('{"type":"frame"}', ErrorCode.UNKNOWN_TYPE),
        ("{}", ErrorCode.UNKNOWN_TYPE),
        ("[]", ErrorCode.BAD_MESSAGE),
        ("null", ErrorCode.BAD_MESSAGE),
        (changed(extra=1), ErrorCode.BAD_MESSAGE),
        (changed(frame_id=True), ErrorCode.BAD_MESSAGE),
        (changed(frame_id="3"), ErrorCode.BAD_MESSAGE),
        (changed(frame_id=-1), ErrorCode.BAD_MESSAGE),
        (changed(frame_id=2**53), ErrorCode.BAD_MESSAGE),
        (changed(pixels=[[0, 0, 1.01]]), ErrorCode.BAD_MESSAGE),
        (changed(pixels=[[0, -0.01, 0]]), ErrorCode.BAD_MESSAGE),
        (changed(pixels=[[0, 0]]), ErrorCode.BAD_MESSAGE),
        (changed(pixels=[[0, 0, "1"]]), ErrorCode.BAD_MESSAGE),
        (changed(pixels=[{"u": 0, "v": 0, "value": 0}, [0, 0, 0]]), ErrorCode.BAD_MESSAGE),
        (changed(pixels=None), ErrorCode.BAD_MESSAGE),
        (changed(pixels={"samples": [[0.5, 0.5, 0.5], [0, 0, 1]]}), ErrorCode.BAD_MESSAGE),
        (changed(pixels="[[,,]]"), ErrorCode.BAD_MESSAGE),
        (changed(resolution=[320]), ErrorCode.BAD_MESSAGE),
        (changed(resolution=[0, 240]), ErrorCode.BAD_MESSAGE),
        (changed(resolution=[10**9, 240]), ErrorCode.BAD_MESSAGE),
    ],
)
def test_what_is_wrong_is_refused_with_a_code(raw: str | bytes, code: ErrorCode) -> None:
    assert code_of(raw) is code


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (changed(pixels=[[0, 0, 1], [0, 1.01, 0]]), r"pixels: .*<= 1.*\[1\]\[1\]"),
        (changed(pixels=[[0, 0, 1, 2], [0, 1, 0, 3]]), r"pixels: .*3.*\[1\]\[3\]"),
        (changed(pixels=[{"u": 0, "v": 0, "value": 0, "w": 0}]), r"pixels: .*`w`.*\[0\]"),
        (changed(pixels=[[0, 0, 0]] * 65536), "pixels: .*65535"),
        (FRAME.replace("0.125", "NaN"), "byte .*; JSON has neither NaN nor Infinity"),
        (changed(resolution=[0, 240]), "resolution.width"),
        (changed(state_vector=[[]] * 65536), "more than 131072 bytes"),
        (changed(**{f"x{i}": [[]] * 2000 for i in range(40)}), "more than 131072 bytes"),
        (changed(**{f"x{i}": 1 for i in range(64)}), "more than 64 fields"),
    ],
)
def test_what_is_wrong_is_named(raw: str, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        decode_client_message(raw)


def test_the_footprints_of_pixels_are_those_of_the_sampler() -> None:
    assert get_args(Footprint) == FOOTPRINTS_PX


@pytest.mark.parametrize(
    ("pixels", "count"),
    [
        ("[]", 0),
        (" [ ] ", 0),
        (" [ [ 0 , 1 , 0.5 , 8 ] ] ", 1),
        (' [ { "value" : 1 , "v" : 0 , "u" : 0 } ] ', 1),
    ],
)
def test_a_frame_may_have_no_pixels_and_spaces_anywhere(pixels: str, count: int) -> None:
    frame = decode_client_message(FRAME.replace("[[0.5,0.25,1],[0,1,0.125]]", pixels))
    assert isinstance(frame, FrameData)
    assert frame.pixels.shape == (count, 4)


ROWS = "[[0.5, 0.25, 1], [0,1,0.125]]"


@pytest.mark.parametrize(
    "fields",
    [
        f'"pixels":{ROWS}',
        f'"pixels": {ROWS}',
        f'"pixels" : {ROWS}',
        f'"pixels":[],"pixels":{ROWS}',
        f'"pixels":{ROWS},"pixels":[]',
        f'"pixels":{ROWS},"pixels" :[]',
        f'"pixels":{ROWS},"pixel\\u0073":[]',
        f'"pixel\\u0073":[],"pixels":{ROWS}',
        f'"pixels":{ROWS},"pixels":[[0,0,0]]',
    ],
)
def test_pixels_are_those_of_the_last_field_of_that_name(fields: str) -> None:
    rest = json.loads(FRAME)
    del rest["pixels"]
    for raw in (f"{{{fields},{json.dumps(rest)[1:]}", f"{json.dumps(rest)[:-1]},{fields}}}"):
        message = decode_client_message(raw)
        assert isinstance(message, FrameData)
        assert message.pixels[:, :3].tolist() == json.loads(raw)["pixels"]
        assert message.state_vector == rest["state_vector"]
        assert [*message.resolution] == [("width", 320), ("height", 240)]


@pytest.mark.parametrize(
    "raw",
    [
        changed(pixels={"pixels": [[0, 0, 0]]}),
        changed(state_vector={"pixels": [[0, 0, 0]]}),
        FRAME.replace('"pixels":', '"pixels":"'),
        FRAME.replace("]]", "]]]"),
        FRAME.replace("]]", "]"),
        FRAME.replace("]],", "]]"),
        FRAME.replace('"pixels":', '"pixels"::'),
        FRAME.replace('"pixels":', '"p":1,"x":'),
    ],
)
def test_pixels_in_another_place_are_refused(raw: str) -> None:
    assert code_of(raw) in {ErrorCode.BAD_JSON, ErrorCode.BAD_MESSAGE}


def test_the_largest_legal_fields_are_taken() -> None:
    state = [-1.2345678901234567e-300] * 4096
    frame = decode_client_message(changed(state_vector=state))
    assert isinstance(frame, FrameData)
    assert len(frame.state_vector) == 4096
    text = "A" * 200_000
    raw = {"type": "keyframe", "frame_id": 1, "encoding": "png", "data": text}
    keyframe = decode_client_message(json.dumps(raw))
    assert isinstance(keyframe, Keyframe)
    assert keyframe.data == text


def test_pixels_in_another_message_are_an_unknown_field() -> None:
    with pytest.raises(ProtocolError, match=r"heartbeat\.pixels"):
        decode_client_message('{"type":"heartbeat","timestamp":1,"pixels":[[0,0,0]]}')


def test_a_missing_field_is_named() -> None:
    fields = json.loads(FRAME)
    del fields["timestamp"]
    with pytest.raises(ProtocolError, match="timestamp"):
        decode_client_message(json.dumps(fields))


@pytest.mark.parametrize("key", ["../../x", "", "a/b", "a\n", "a\x00", "ä", "a.b", "a" * 65, "ａ"])
def test_a_checkpoint_key_that_is_no_identifier_is_refused(key: str) -> None:
    start = {
        "type": "session_start",
        "checkpoint_key": key,
        "resolution": [4, 3],
        "max_state_dim": 0,
    }
    assert code_of(json.dumps(start)) is ErrorCode.BAD_MESSAGE
    assert not is_valid_id(key)


@given(st.text() | st.binary())
def test_garbage_is_refused_and_never_crashes(raw: str | bytes) -> None:
    code_of(raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(
    st.sampled_from(["session_start", "frame_data", "keyframe", "heartbeat"]),
    st.dictionaries(
        st.sampled_from(["frame_id", "pixels", "resolution", "timestamp", "data", "client"]),
        json_values,
    ),
)
def test_wrong_fields_are_refused_and_never_crash(kind: str, fields: dict[str, object]) -> None:
    raw = json.dumps({"type": kind, **fields})
    try:
        message = decode_client_message(raw)
    except ProtocolError:
        return
    assert isinstance(message, Heartbeat)  # the only kind that so few fields can make whole


def test_messages_survive_the_way_through_the_codec() -> None:
    start = SessionStart(
        checkpoint_key="k", resolution=Resolution(width=4, height=3), max_state_dim=2
    )
    assert decode_client_message(encode(start)) == start
    answer = UvCoordinates(
        frame_id=4, coords=[(0.5, 0.25)], coordinate_set_id=5, model_version="v1"
    )
    assert decode_server_message(encode(answer)) == answer


def test_a_client_ignores_what_a_newer_server_adds() -> None:
    raw = (
        '{"type":"heartbeat_ack","timestamp":1,"server_time":2,"last_recorded_frame_id":3,'
        '"target_fps":10,"news":true}'
    )
    assert decode_server_message(raw) == HeartbeatAck(
        timestamp=1, server_time=2, last_recorded_frame_id=3, target_fps=10
    )
