"""The reconstructor's methods: what comes back of frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reconstructor.build import build_reconstructor
from reconstructor.forward import batch_size, columns, in_bfloat16
from reconstructor.frame import FrameInput, Reconstruction
from reconstructor.inpaint import InpaintReconstructor
from reconstructor.neural import NeuralReconstructor
from sgaps.checkpoints import UNTRAINED
from sgaps.errors import SettingsError
from sgaps.model import (
    collate,
    load_serving,
    predicted_psnr_db,
    stores_of,
)
from sgaps.settings import load_settings
from toy_models import HEIGHT, WIDTH, picture, publish, samples_of
from toy_reconstructors import frame, neural, settings_of


def at_samples(image: NDArray[np.uint8], frame: FrameInput) -> NDArray[np.uint8]:
    x = (frame.samples[:, 0] * frame.width).astype(int)
    y = (frame.samples[:, 1] * frame.height).astype(int)
    return np.asarray(image[y, x], np.uint8)


def assert_same(left: Reconstruction, right: Reconstruction) -> None:
    assert left.model_version == right.model_version
    np.testing.assert_allclose(left.image.astype(int), right.image.astype(int), atol=1)
    assert left.entropy is not None
    assert right.entropy is not None
    np.testing.assert_allclose(left.entropy, right.entropy, atol=1e-5)


def test_without_a_checkpoint_the_prior_serves_and_claims_nothing(tmp_path: Path) -> None:
    reconstructor = neural(tmp_path)
    (result,) = reconstructor.reconstruct([frame()])
    assert reconstructor.serving() == {"default": UNTRAINED}
    assert result.model_version == UNTRAINED
    assert result.log_error is None
    assert result.predicted_psnr_db is None
    assert result.entropy is not None
    assert result.entropy.shape == result.grid == (4, 5)
    sent = np.round(frame().samples[:, 2] * 255).astype(np.uint8)
    np.testing.assert_array_equal(at_samples(result.image, frame()), sent)


def test_a_model_for_color_is_no_setting_of_a_reconstructor(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"model\.color_channels"):
        build_reconstructor(settings_of(tmp_path, "model.color_channels=3"))


def test_entropy_is_computed_only_where_it_is_used(tmp_path: Path) -> None:
    publish(tmp_path / "own", "doom")
    by_error = ["importance=learned"]
    trained, prior = neural(tmp_path, *by_error).reconstruct([frame("doom"), frame("pong")])
    assert trained.entropy is None
    assert trained.log_error is not None
    assert prior.entropy is not None  # nothing else tells where to look
    assert prior.log_error is None
    (asked,) = neural(tmp_path).reconstruct([frame("doom")])
    assert asked.entropy is not None


def test_a_mixed_batch_comes_back_in_order(tmp_path: Path) -> None:
    publish(tmp_path / "own", "doom")
    reconstructor = neural(tmp_path)
    frames = [
        frame("doom", seed=1),
        frame("pong", seed=2, size=(20, 30), count=9),
        frame("doom", seed=3, count=17, history=True),
        frame("doom", seed=4, size=(20, 30), count=1),
        frame("doom", seed=5, count=25),
    ]
    together = reconstructor.reconstruct(frames)
    for one, result in zip(frames, together, strict=True):
        assert result.image.shape == (one.height, one.width)
        assert_same(result, reconstructor.reconstruct([one])[0])
    assert reconstructor.reconstruct([]) == []


def test_a_frame_without_samples_is_gray(tmp_path: Path) -> None:
    empty = FrameInput(
        checkpoint_key="doom",
        samples=np.empty((0, 4), np.float32),
        state=np.empty(0, np.float32),
        width=WIDTH,
        height=HEIGHT,
        history=(),
    )
    (result,) = neural(tmp_path).reconstruct([empty])
    assert set(np.unique(result.image).tolist()) <= {127, 128}
    assert result.entropy is not None
    assert np.isfinite(result.entropy).all()


@pytest.mark.parametrize(
    ("steps", "ages"),
    [((1, 2), [1, 2]), ((3, 10**6), [3, 17]), ((10**6, 2 * 10**6), [16, 17]), ((), [])],
)
def test_frame_ids_that_jump_make_old_samples_only_old(
    steps: tuple[int, ...], ages: list[int]
) -> None:
    """A client may number its frames by a clock; a model was trained on neighbours."""
    now = samples_of(picture(0, WIDTH, HEIGHT), 5)
    inputs = collate(
        [(now, tuple((step, now[:1]) for step in steps), np.empty(0, np.float32))],
        width=WIDTH,
        height=HEIGHT,
        attended_frames=1,
        max_state_dim=1,
        sentinel=-999.0,
    )
    assert inputs.age[0].tolist() == [0] * 5 + ages


def test_a_checkpoint_of_another_state_length_serves(tmp_path: Path) -> None:
    manifest = publish(tmp_path / "own", "doom")
    settings = settings_of(tmp_path)
    assert manifest.model.max_state_dim != settings.max_state_dim
    (result,) = neural(tmp_path).reconstruct([frame()])
    assert result.model_version == manifest.model_version


def test_predicted_psnr_is_that_of_the_mean_squared_error() -> None:
    assert predicted_psnr_db(np.log(np.full((3, 4), 0.1, np.float32))) == pytest.approx(20.0)
    assert predicted_psnr_db(np.full((3, 4), 2.0, np.float32)) == 0
    assert predicted_psnr_db(np.full((3, 4), 1e6, np.float32)) is None
    assert predicted_psnr_db(np.full((3, 4), np.nan, np.float32)) is None
    uneven = np.log(np.array([[0.1, 0.3]], np.float32))
    assert predicted_psnr_db(uneven) == pytest.approx(-10 * np.log10(0.05), abs=1e-4)


@pytest.mark.parametrize("method", ["telea", "navier_stokes"])
def test_inpainting_keeps_the_samples_and_doubts_nothing(tmp_path: Path, method: str) -> None:
    reconstructor = build_reconstructor(settings_of(tmp_path, f"reconstructor.method={method}"))
    assert isinstance(reconstructor, InpaintReconstructor)
    frames = [frame(size=(64, 48)), frame(seed=2)]
    for one, result in zip(frames, reconstructor.reconstruct(frames), strict=True):
        sent = np.round(one.samples[:, 2] * 255).astype(np.uint8)
        np.testing.assert_array_equal(at_samples(result.image, one), sent)
        assert result.image.shape == (one.height, one.width)
        assert result.image.std() > 0
        assert result.grid == (-(-one.height // 8), -(-one.width // 8))
        assert result.entropy is None
        assert result.log_error is None
        assert result.model_version == method
    assert reconstructor.serving() == {"default": method}
    assert reconstructor.refresh() == 0


def test_the_transformer_is_the_default_method(tmp_path: Path) -> None:
    reconstructor = build_reconstructor(settings_of(tmp_path))
    assert isinstance(reconstructor, NeuralReconstructor)
    reconstructor.warm_up()


def test_what_a_gpu_serves_in_bfloat16_is_the_same_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped checkpoint on a CPU, by the precision that a GPU has."""
    settings = load_settings(
        ["data.checkpoints_dir=none", "importance.method=attention_entropy"], environment={}
    )
    reconstructor = NeuralReconstructor(stores_of(settings.data), settings)
    frames = [frame("default", count=count, size=(160, 120), history=True) for count in (500, 400)]
    frames = [*frames, frame("default", count=500, size=(84, 84))]
    exact = reconstructor.reconstruct(frames)
    monkeypatch.setattr(
        "reconstructor.forward.network_precision",
        lambda device: torch.autocast(device.type, torch.bfloat16),
    )
    for rough, right in zip(reconstructor.reconstruct(frames), exact, strict=True):
        assert rough.image.dtype == np.uint8
        off = np.abs(rough.image.astype(int) - right.image)
        assert 0 < off.mean() < 1
        assert off.max() < 20
        for name, tolerance in (("log_error", 0.2), ("entropy", 0.05)):
            grid = getattr(rough, name)
            assert grid.dtype == np.float32
            np.testing.assert_allclose(grid, getattr(right, name), atol=tolerance)


def test_weights_in_bfloat16_are_what_the_network_computes_with() -> None:
    """To round them once is to round them in every pass."""
    model, manifest, _ = load_serving(load_settings(["data.checkpoints_dir=none"]).data, "default")
    now = frame("default", count=500, size=(160, 120))
    inputs = collate(
        [(now.samples, (), now.state)],
        width=now.width,
        height=now.height,
        attended_frames=manifest.model.attended_frames,
        max_state_dim=manifest.model.max_state_dim,
        sentinel=-999.0,
    )
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        every_time = model(inputs)
        once = in_bfloat16(model)(inputs)
    assert next(model.head.refine.parameters()).dtype == torch.bfloat16
    torch.testing.assert_close(once.frame, every_time.frame, rtol=0, atol=0)
    torch.testing.assert_close(once.log_error, every_time.log_error, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("frames", "samples", "expected"),
    [(1, 500, (1, 512)), (3, 512, (4, 512)), (16, 1, (16, 64)), (17, 1000, (32, 1024))],
)
def test_shapes_on_a_gpu_are_few(frames: int, samples: int, expected: tuple[int, int]) -> None:
    assert (batch_size(frames), columns(samples)) == expected


def test_the_processor_is_prepared_beside_a_gpu_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It blends the atlas, and would do that with all of its cores."""
    threads: list[int] = []
    monkeypatch.setattr("reconstructor.neural.device_of", lambda _: torch.device("cuda"))
    monkeypatch.setattr("reconstructor.neural.Models", lambda *_: None)
    monkeypatch.setattr("reconstructor.neural.prepare_cpu", threads.append)
    neural(tmp_path, "reconstructor.cpu_threads=3")
    assert threads == [3]


def test_a_checkpoint_is_served_in_its_own_shape(tmp_path: Path) -> None:
    manifest = publish(tmp_path / "own", "doom")
    assert manifest.model.history_frames > 0
    other = ("model.history_frames=0", "model.attended_frames=0", "max_state_dim=5")
    seen = frame("doom", history=True)
    (expected,) = neural(tmp_path).reconstruct([seen])
    (result,) = neural(tmp_path, *other).reconstruct([seen])
    assert_same(result, expected)
