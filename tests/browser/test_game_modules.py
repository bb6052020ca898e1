"""The game's modules that need no browser, in Node: beside the golden bytes and beside numpy."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from browser.node import MODULES, node
from sgaps.model.prior import consistent, pull_push
from sgaps.protocol import binary_codec, json_codec
from sgaps.protocol.content import CoordinateSet, Importance, SampledFrame, WholeFrame
from sgaps.protocol.messages import FrameData, Keyframe
from sgaps.sampling.adaptive import AdaptiveUVSampler
from sgaps.sampling.footprints import Coords, sample_image
from sgaps.settings import load_settings

STATE = np.array([1.5, -999.0, 0.1], np.float32)
FORMS: dict[str, Any] = {
    binary_codec.SUBPROTOCOL: binary_codec,
    json_codec.SUBPROTOCOL: json_codec,
}


def test_the_protocol_on_the_golden_bytes() -> None:
    node("--test", MODULES / "protocol.test.mjs")


def squares(width: int, height: int, *, footprints: bool) -> Coords:
    importance = np.random.default_rng(1).random((height // 8 + 1, width // 8 + 1), np.float32)
    return AdaptiveUVSampler(load_settings(environment={}).sampling, footprints=footprints).sample(
        importance, count=300, width=width, height=height, rng=np.random.default_rng(2)
    )


def smooth_noise(width: int, height: int) -> NDArray[np.uint8]:
    """Something with edges and slopes."""
    rows, columns = np.mgrid[:height, :width]
    waves = 90 + 60 * np.sin(columns / 9) + 50 * np.cos(rows / 7) + 40 * (columns > rows)
    return np.asarray(waves.clip(0, 255), np.uint8)


def computed(chosen: CoordinateSet, luma: NDArray[np.uint8], form: str) -> dict[str, bytes]:
    raw = FORMS[form].encode_coordinates(chosen)
    request = {
        "width": luma.shape[1],
        "height": luma.shape[0],
        "form": form,
        "coordinates": base64.b64encode(raw.encode() if isinstance(raw, str) else raw).decode(),
        "luma": base64.b64encode(luma.tobytes()).decode(),
        "state": STATE.tolist(),
    }
    said = json.loads(node(MODULES / "compute.mjs", given=json.dumps(request)))
    return {name: base64.b64decode(data) for name, data in said.items()}


def chosen_set(coords: Coords, *, footprints: bool) -> CoordinateSet:
    return CoordinateSet(
        frame_id=6,
        coordinate_set_id=14,
        coords=coords,
        footprints=footprints,
        importance=Importance(width=2, height=1, data=b"\x00\xff"),
        model_version="v1",
        predicted_psnr_db=25.5,
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("footprints", [True, False])
@pytest.mark.parametrize(("width", "height"), [(320, 240), (157, 83)])
def test_samples_and_messages_agree_with_python_to_the_byte(
    width: int, height: int, footprints: bool, form: str
) -> None:
    luma = smooth_noise(width, height)
    coords = squares(width, height, footprints=footprints)
    said = computed(chosen_set(coords, footprints=footprints), luma, form)
    seen = binary_codec.as_sent(coords) if form == binary_codec.SUBPROTOCOL else coords
    samples = sample_image(luma, seen)
    assert said["values"] == np.round(samples[:, 2] * 255).astype(np.uint8).tobytes()
    frame, keyframe = decoded(said, form, seen)
    assert (frame.frame_id, frame.coordinate_set_id, frame.timestamp) == (7, 14, 1.25)
    assert (frame.resolution.width, frame.resolution.height) == (width, height)
    np.testing.assert_array_equal(frame.state, STATE)
    np.testing.assert_allclose(frame.samples, samples, atol=1e-6)
    assert (keyframe.frame_id, keyframe.encoding, keyframe.data) == (7, "png", luma.tobytes())


def decoded(said: dict[str, bytes], form: str, coords: Coords) -> tuple[SampledFrame, WholeFrame]:
    """As the gateway reads them."""
    if form == binary_codec.SUBPROTOCOL:
        values = binary_codec.decode_client_message(said["frame"])
        whole = binary_codec.decode_client_message(said["keyframe"])
        assert isinstance(values, binary_codec.ValuesOfFrame)
        assert isinstance(whole, WholeFrame)
        return values.at(coords), whole
    frame = json_codec.decode_client_message(said["frame"])
    keyframe = json_codec.decode_client_message(said["keyframe"])
    assert isinstance(frame, FrameData)
    assert isinstance(keyframe, Keyframe)
    return json_codec.sampled_frame(frame), json_codec.whole_frame(keyframe)


@pytest.mark.parametrize(("width", "height"), [(320, 240), (157, 83)])
@pytest.mark.parametrize("footprints", [True, False])
def test_the_interpolation_is_the_servers(width: int, height: int, footprints: bool) -> None:
    luma = smooth_noise(width, height)
    coords = binary_codec.as_sent(squares(width, height, footprints=footprints))
    said = computed(chosen_set(coords, footprints=footprints), luma, binary_codec.SUBPROTOCOL)
    samples = torch.from_numpy(sample_image(luma, coords))[None]
    prior = pull_push(
        samples[..., :2],
        samples[..., 2:3],
        samples[..., 3],
        torch.ones(samples.shape[:2], dtype=torch.bool),
        height=height,
        width=width,
    )
    expected = consistent(prior.frame, prior.levels)[0, 0].numpy().clip(0, 1) * 255
    ours = np.frombuffer(said["prior"], np.uint8).reshape(height, width)
    np.testing.assert_allclose(ours, expected, atol=0.51)
