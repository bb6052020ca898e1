"""The core assembly: its own tests under Mono, and the bytes and values of the Python side."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from paths import GOLDEN
from sgaps.errors import ErrorCode
from sgaps.protocol import binary_codec, json_codec
from sgaps.protocol.content import CoordinateSet, Importance
from sgaps.protocol.messages import FrameData, Keyframe
from sgaps.sampling.footprints import FOOTPRINTS_PX, sample_image
from sgaps_client.client import WORTH_RETRYING
from sgaps_client.state import FRAME_REFUSALS
from unity.conftest import PACKAGE, Compiler, Harness, run_tests

MESSAGES: list[dict[str, Any]] = json.loads((GOLDEN / "messages.json").read_text())


def random_set(*, footprints: bool = True) -> CoordinateSet:
    rng, count = np.random.default_rng(5), 300
    sides = rng.choice(FOOTPRINTS_PX, count) if footprints else np.ones(count)
    uv = rng.random((count, 2))
    uv[:4] = [(0, 0), (1, 1), (0, 1), (1, 0)]
    return CoordinateSet(
        frame_id=3,
        coordinate_set_id=8,
        coords=np.column_stack([uv, sides]).astype(np.float32),
        footprints=footprints,
        importance=Importance(width=2, height=1, data=b"\0\xff"),
        model_version="v1-é",
        predicted_psnr_db=21.5,
    )


def test_its_own_tests_pass(compiler: Compiler, core: Path) -> None:
    """Tests/Runtime, which Unity's Test Framework runs as well; here by NUnit's console."""
    run_tests(compiler, "Sgaps.Client.Tests", PACKAGE / "Tests" / "Runtime", core)


@pytest.mark.parametrize("golden", MESSAGES, ids=lambda golden: str(golden["file"]))
def test_golden_bytes_say_the_same_and_are_written_again(
    harness: Harness, golden: dict[str, Any], tmp_path: Path
) -> None:
    again = tmp_path / "again.bin"
    says = json.loads(harness("recode", golden["type"], GOLDEN / golden["file"], again))
    coords = says.pop("coords", [])
    expected = dict(golden["says"])
    assert np.allclose(coords, expected.pop("coords", []), atol=1e-6)
    assert says == expected
    assert again.read_bytes() == (GOLDEN / golden["file"]).read_bytes()


@pytest.mark.parametrize("footprints", [False, True])
def test_python_reads_the_json_that_csharp_writes(harness: Harness, footprints: bool) -> None:
    chosen = random_set(footprints=footprints)
    lines = harness("frame-json", given=json_codec.encode_coordinates(chosen)).splitlines()
    keyframe, frame = (json_codec.decode_client_message(line) for line in lines)
    assert isinstance(keyframe, Keyframe)
    assert base64.b64decode(keyframe.data) == b"\0\xff\7"
    assert isinstance(frame, FrameData)
    read = json_codec.sampled_frame(frame)
    np.testing.assert_allclose(read.samples[:, [0, 1, 3]], chosen.coords, atol=1e-6)
    values = np.arange(len(chosen.coords)) * 37 % 256
    np.testing.assert_array_equal(np.round(read.samples[:, 2] * 255), values)
    np.testing.assert_array_equal(read.state, np.array([0.1, -999, 1e-8], np.float32))
    assert (read.frame_id, read.coordinate_set_id, read.timestamp) == (7, 8, 1764000000.123456)


@pytest.mark.parametrize("order", ["TopFirst", "BottomFirst"])
@pytest.mark.parametrize("size", [(160, 120), (33, 17), (1, 1)])
def test_samples_are_those_of_python(
    harness: Harness, order: str, size: tuple[int, int], tmp_path: Path
) -> None:
    width, height = size
    image = np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.uint8)
    picture, message = tmp_path / "luma", tmp_path / "set"
    picture.write_bytes(in_memory(image, order))
    chosen = random_set()
    message.write_bytes(binary_codec.encode_coordinates(chosen))
    output = harness("sample", picture, str(width), str(height), order, message)
    values = [int(line.split()[0]) for line in output.splitlines()]
    expected = sample_image(image, binary_codec.as_sent(chosen.coords))[:, 2]
    np.testing.assert_array_equal(values, np.round(expected * 255))


@pytest.mark.parametrize("order", ["TopFirst", "BottomFirst"])
def test_a_keyframe_is_the_picture(harness: Harness, order: str, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 70)).astype(np.uint8)
    picture, png = tmp_path / "luma", tmp_path / "keyframe.png"
    picture.write_bytes(in_memory(image, order))
    harness("png", picture, "70", "48", order, png)
    decoded = cv2.imdecode(np.frombuffer(png.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded, image)


def test_refusals_mean_the_same_to_both_clients(harness: Harness) -> None:
    """A code that is new on one side has to be given its meaning on the other."""
    lines = harness("codes", *ErrorCode).splitlines()
    expected = [f"{code} {code in WORTH_RETRYING} {code in FRAME_REFUSALS}" for code in ErrorCode]
    assert lines == expected


def in_memory(image: NDArray[np.uint8], order: str) -> bytes:
    return (image if order == "TopFirst" else image[::-1]).tobytes()
