"""The binary form: what is written is read again, and nothing else is taken."""

from __future__ import annotations

import base64
import contextlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from paths import GOLDEN
from sgaps.errors import ProtocolError
from sgaps.protocol import binary_codec
from sgaps.protocol.binary_codec import ValuesOfFrame
from sgaps.protocol.content import CoordinateSet, SampledFrame, WholeFrame
from sgaps.protocol.messages import MAX_FRAME_ID, MAX_SET_ID, Resolution
from strategies import coordinate_sets, frames, ids


@given(frames())
def test_a_frame_is_read_as_it_was_written_but_for_a_byte_per_value(frame: SampledFrame) -> None:
    data = binary_codec.encode_frame(frame)
    read = binary_codec.decode_client_message(data)
    assert isinstance(read, ValuesOfFrame)
    whole = read.at(frame.samples[:, [0, 1, 3]])
    for name in ("frame_id", "coordinate_set_id", "resolution", "timestamp"):
        assert getattr(whole, name) == getattr(frame, name)
    np.testing.assert_array_equal(whole.state, frame.state)
    np.testing.assert_array_equal(whole.samples[:, [0, 1, 3]], frame.samples[:, [0, 1, 3]])
    np.testing.assert_allclose(whole.samples[:, 2], frame.samples[:, 2], atol=0.5 / 255 + 1e-6)
    assert binary_codec.encode_frame(whole) == data


@given(coordinate_sets())
def test_coordinates_are_read_as_they_were_sent(chosen: CoordinateSet) -> None:
    data = binary_codec.encode_coordinates(chosen)
    read = binary_codec.decode_server_message(data)
    np.testing.assert_array_equal(read.coords, binary_codec.as_sent(chosen.coords))
    np.testing.assert_allclose(read.coords, chosen.coords, atol=0.5 / 65535 + 1e-6)
    for name in ("frame_id", "coordinate_set_id", "footprints", "importance", "model_version"):
        assert getattr(read, name) == getattr(chosen, name)
    assert read.predicted_psnr_db == chosen.predicted_psnr_db
    assert binary_codec.encode_coordinates(read) == data


@given(ids, st.sampled_from(["png", "jpeg"]), st.binary(max_size=99))
def test_a_keyframe_is_read_as_it_was_written(frame_id: int, encoding: Any, data: bytes) -> None:
    keyframe = WholeFrame(frame_id=frame_id, encoding=encoding, data=data)
    written = binary_codec.encode_keyframe(keyframe)
    assert binary_codec.decode_client_message(written) == keyframe


def test_500_samples_and_16_values_take_at_most_700_bytes() -> None:
    frame = SampledFrame(
        frame_id=1,
        coordinate_set_id=2,
        samples=np.ones((500, 4), np.float32),
        state=np.ones(16, np.float32),
        resolution=Resolution(width=320, height=240),
        timestamp=0.0,
    )
    assert len(binary_codec.encode_frame(frame)) == 600


@given(st.binary(max_size=80))
@hypothesis_settings(max_examples=300)
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for prefix in (b"", b"SG\x01\x01", b"SG\x01\x02", b"SG\x01\x03"):
        for decode in (binary_codec.decode_client_message, binary_codec.decode_server_message):
            with contextlib.suppress(ProtocolError):  # anything else is a crash
                decode(prefix + data)


@given(frames(), st.data())
def test_a_frame_cut_short_or_too_long_is_refused(frame: SampledFrame, data: st.DataObject) -> None:
    whole = binary_codec.encode_frame(frame)
    end = data.draw(st.integers(0, len(whole) - 1))
    for torn in (whole[:end], whole + b"\0"):
        with pytest.raises(ProtocolError):
            binary_codec.decode_client_message(torn)


def frame_with(**changes: object) -> bytes:
    """A frame of one sample and one state value, some field changed as no encoder would."""
    fields: dict[str, Any] = {"frame_id": 1, "set_id": 2, "timestamp": 0.5, "width": 8, "height": 6}
    fields |= changes
    state = np.array([fields.pop("state", 1.0)], "<f4").tobytes()
    head = b"SG\x01\x01" + binary_codec._FRAME.pack(*fields.values(), 1, 1)
    return head + state + b"\x80"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"frame_id": MAX_FRAME_ID + 1}, "frame id"),
        ({"set_id": MAX_SET_ID + 1}, "set id"),
        ({"timestamp": math.nan}, "timestamp"),
        ({"timestamp": math.inf}, "timestamp"),
        ({"width": 0}, "resolution"),
        ({"height": 8193}, "resolution"),
        ({"state": math.nan}, "state value"),
        ({"state": -math.inf}, "state value"),
    ],
)
def test_what_json_refuses_is_refused_in_binary_too(changes: dict[str, Any], told: str) -> None:
    assert isinstance(binary_codec.decode_client_message(frame_with()), ValuesOfFrame)
    with pytest.raises(ProtocolError, match=told):
        binary_codec.decode_client_message(frame_with(**changes))


def test_a_frame_of_another_length_than_its_set_is_refused() -> None:
    frame = binary_codec.decode_client_message(frame_with())
    assert isinstance(frame, ValuesOfFrame)
    with pytest.raises(ProtocolError, match="set 2 has 3"):
        frame.at(np.ones((3, 3), np.float32))


def golden_messages() -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads((GOLDEN / "messages.json").read_text())
    return listed


@pytest.mark.parametrize("message", golden_messages(), ids=lambda message: str(message["file"]))
def test_golden_bytes_are_read_and_written(message: dict[str, Any]) -> None:
    data = (GOLDEN / message["file"]).read_bytes()
    says = message["says"]
    if message["type"] == "uv_coordinates":
        chosen = binary_codec.decode_server_message(data)
        np.testing.assert_allclose(chosen.coords, says["coords"], atol=1e-6)
        assert chosen.model_version == says["model_version"]
        assert chosen.predicted_psnr_db == says["predicted_psnr"]
        assert (chosen.frame_id, chosen.coordinate_set_id, chosen.footprints) == (
            says["frame_id"],
            says["coordinate_set_id"],
            says["footprints"],
        )
        shown = chosen.importance
        importance = shown and [shown.width, shown.height, base64.b64encode(shown.data).decode()]
        assert importance == says["importance_map"]
        assert binary_codec.encode_coordinates(chosen) == data
        return
    read = binary_codec.decode_client_message(data)
    if isinstance(read, WholeFrame):
        picture = base64.b64decode(says["data"])
        assert (read.frame_id, read.encoding, read.data) == (
            says["frame_id"],
            says["encoding"],
            picture,
        )
        assert binary_codec.encode_keyframe(read) == data
        return
    assert read.values.tolist() == says["values"]
    assert read.state.tolist() == says["state_vector"]
    assert [read.resolution.width, read.resolution.height] == says["resolution"]
    assert (read.frame_id, read.coordinate_set_id, read.timestamp) == (
        says["frame_id"],
        says["coordinate_set_id"],
        says["timestamp"],
    )
    coords = np.ones((len(read.values), 3), np.float32)
    assert binary_codec.encode_frame(read.at(coords)) == data
