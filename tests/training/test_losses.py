"""What a run learns by: the terms of the loss, alone and together."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sgaps.model import ModelOutput, build_model
from sgaps.sampling.footprints import as_points, sample_image
from sgaps.sampling.importance import NOTHING_KNOWN
from sgaps.sampling.quadtree import split_tiling
from trainer.batch import make_batch
from trainer.losses import (
    ReconstructionLoss,
    SampledPixelL2Loss,
    TemporalLoss,
    log_error_loss,
    log_mse_loss,
    means_at,
)
from training.toy_recordings import HEIGHT, WIDTH, paired, record, toy_settings


def test_means_are_read_where_samples_were_taken() -> None:
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH)).astype(np.uint8)
    rng = np.random.default_rng(1)
    coords = split_tiling(
        NOTHING_KNOWN, guided_share=0, count=60, width=WIDTH, height=HEIGHT, rng=rng
    )
    points = np.concatenate([coords, as_points(rng.random((50, 2), np.float32))])
    samples = torch.from_numpy(sample_image(image, points)[None])
    frame = torch.from_numpy(image).float().div(255)[None, None]
    np.testing.assert_allclose(means_at(frame, samples)[0], samples[0, :, 2], atol=0.5 / 255 + 1e-6)
    loss = SampledPixelL2Loss()
    valid = torch.ones(samples.shape[:2], dtype=torch.bool)
    assert float(loss(frame, samples, valid)) < (0.5 / 255) ** 2
    assert float(loss(frame + 0.5, samples, valid)) == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("side", [1, 2, 64])
def test_a_mean_at_an_edge_is_that_of_the_pixel_behind_it(side: int) -> None:
    """As the protocol has it, and 1 is in the last one."""
    columns, rows = -(-WIDTH // side), -(-HEIGHT // side)
    numbers = np.arange(1, rows * columns + 1, dtype=np.float32).reshape(rows, columns)
    image = numbers.repeat(side, 0).repeat(side, 1)[:HEIGHT, :WIDTH]
    frame = torch.from_numpy(image.copy())[None, None].requires_grad_()
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(WIDTH + 1), np.arange(HEIGHT + 1)))
    rest = np.full((len(x), 2), [0, side])
    points = torch.from_numpy(np.column_stack([x / WIDTH, y / HEIGHT, rest]).astype(np.float32))
    expected = image[np.minimum(y, HEIGHT - 1), np.minimum(x, WIDTH - 1)]
    means = means_at(frame, points[None])[0]
    np.testing.assert_allclose(means.detach().numpy(), expected, rtol=1e-5)
    means.sum().backward()  # type: ignore[no-untyped-call]
    assert frame.grad is not None
    assert float(frame.grad.sum()) == pytest.approx(len(points), rel=1e-5)


def test_the_frame_loss_falls_with_psnr() -> None:
    target = torch.zeros(2, 1, 4, 4)
    near, far = log_mse_loss(target + 0.05, target), log_mse_loss(target + 0.5, target)
    assert float(far - near) == pytest.approx(2 * np.log(10), abs=0.01)


def test_the_predicted_error_is_that_of_frames_and_its_cells_differ_as_theirs_do() -> None:
    """Where a cell cannot be foretold, its best logarithm alone would tell too good a frame."""
    rng = torch.Generator().manual_seed(0)
    spread = torch.exp(torch.randn(4000, 1, 6, 8, generator=rng))  # unforeseeable, of one kind
    slope = torch.linspace(-1, 1, 8).expand(6, 8)
    error = 0.05 * F.interpolate(spread * slope.exp(), scale_factor=2.0)
    told = torch.zeros(6, 8, requires_grad=True)
    optimiser = torch.optim.Adam([told], lr=0.1)
    for _ in range(300):
        output = ModelOutput(
            frame=error, log_error=told.expand(4000, -1, -1), entropy=None, attention=None
        )
        optimiser.zero_grad()
        log_error_loss(output, torch.zeros_like(error)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    cells = told.detach()
    torch.testing.assert_close(cells - cells.mean(), slope, atol=0.1, rtol=0)
    torch.testing.assert_close(log_rms(cells.exp()[None, None]), log_rms(error), atol=0.01, rtol=0)
    assert float(cells.mean()) > math.log(0.05) + 0.5  # the best of each cell alone


def log_rms(error: torch.Tensor) -> torch.Tensor:
    """Mean over frames (B, 1, H, W)."""
    return 0.5 * error.square().mean((1, 2, 3)).log().mean()


def test_the_temporal_loss_is_blind_to_what_stays_and_sees_flicker() -> None:
    target, pairs = torch.rand(2, 1, 4, 4), torch.tensor([[0, 1]])
    loss = TemporalLoss()
    assert float(loss(target + 0.1, target, pairs)) == pytest.approx(0, abs=1e-9)
    flicker = torch.tensor([0.1, -0.1]).view(2, 1, 1, 1)
    assert float(loss(target + flicker, target, pairs)) == pytest.approx(0.04)


def test_pairs_weigh_in_the_loss(tmp_path: Path) -> None:
    record(tmp_path, "a", frames=3)
    dataset = paired(tmp_path, resample=False)
    settings = toy_settings(tmp_path)
    batch = make_batch([dataset[i] for i in range(3)], settings, torch.device("cpu"))
    output = build_model(settings.model)(batch.inputs)
    losses, terms = {}, {}
    for weight in (0.0, 2.0):
        weights = settings.loss.model_copy(update={"temporal": weight})
        losses[weight], terms = ReconstructionLoss(weights)(output, batch)
    assert float(terms["temporal"].detach()) > 0
    added = float((losses[2.0] - losses[0.0]).detach())
    assert added == pytest.approx(2 * float(terms["temporal"].detach()))
