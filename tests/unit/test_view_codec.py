"""The binary `view` at the level of its bytes."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from sgaps.errors import ProtocolError
from sgaps.protocol.views import (
    Counters,
    ImportanceShown,
    Parts,
    StagesMs,
    View,
    ViewHeader,
    decode_view,
    encode_view,
    pack_samples,
    shown_state,
    unpack_samples,
)

COUNTERS = Counters(
    frames_received=9,
    frames_answered=6,
    frames_dropped=1,
    messages_refused=0,
    bytes_up=1000,
    bytes_down=2000,
)


def view() -> View:
    return View(
        header=ViewHeader(
            session_id="s1",
            frame_id=7,
            model_version="v1",
            width=4,
            height=3,
            predicted_psnr=25.5,
            measured_psnr=None,
            sample_error=None,
            received_at=1.5,
            stages_ms=StagesMs(queue=1, inference=2, answer=None),
            counters=COUNTERS,
            state=[0.5, None],
            importance=ImportanceShown(frame_id=6, width=2, height=1),
            true_frame="jpeg",
            parts=Parts(reconstruction=3, samples=6, importance=2, true_frame=4),
        ),
        reconstruction=b"png",
        samples=b"\0\0\xff\xff\x80\2",
        importance=b"\0\xff",
        true_frame=b"jpeg",
    )


def test_the_bytes_are_those_of_the_documentation() -> None:
    raw = encode_view(view())
    assert raw[:4] == b"SG\x01\x04"
    (size,) = struct.unpack("<I", raw[4:8])
    header = json.loads(raw[8 : 8 + size])
    assert raw[8 + size :] == b"png" + b"\0\0\xff\xff\x80\2" + b"\0\xff" + b"jpeg"
    assert header["parts"] == {"reconstruction": 3, "samples": 6, "importance": 2, "true_frame": 4}
    assert header["state"] == [0.5, None]
    assert header["importance"] == {"frame_id": 6, "width": 2, "height": 1}
    assert (header["frame_id"], header["measured_psnr"], header["true_frame"]) == (7, None, "jpeg")
    assert header["stages_ms"] == {"queue": 1, "inference": 2, "answer": None}


def test_what_was_written_is_read() -> None:
    assert decode_view(encode_view(view())) == view()


def test_what_is_no_view_is_refused() -> None:
    raw = encode_view(view())
    wrong_head = [b"XG" + raw[2:], raw[:2] + b"\2" + raw[3:], raw[:3] + b"\3" + raw[4:]]
    wrong_length = [*(raw[:length] for length in range(len(raw))), raw + b"\0"]
    for wrong in (*wrong_head, *wrong_length):
        with pytest.raises(ProtocolError):
            decode_view(wrong)


def test_a_sample_takes_six_bytes() -> None:
    samples = np.array([[0, 1, 128 / 255, 4], [0.5, 0.25, 1, 1]], np.float32)
    packed = pack_samples(samples)
    assert packed == b"\0\0\xff\xff\x80\2" + b"\x00\x80\x00\x40\xff\0"
    np.testing.assert_allclose(unpack_samples(packed), samples, atol=1 / 65535)
    with pytest.raises(ProtocolError):
        unpack_samples(packed[:-1])


@pytest.mark.parametrize("missing_value", [-999.0, -999.9, 1e-9])
def test_a_missing_value_of_a_state_is_shown_as_none(missing_value: float) -> None:
    """Whether or not it is a float32, with six decimals or more."""
    state = np.array([0.1, missing_value, 7], np.float32)
    assert shown_state(state, missing_value) == [0.1, None, 7]
