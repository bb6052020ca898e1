"""Shift-tolerant LPIPS: the authors' numbers, as a loss, and without its weights."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import trainer.losses
from sgaps.model import ModelOutput, build_model
from sgaps.recording import find_segments
from trainer import perceptual
from trainer.batch import Batch, make_batch
from trainer.losses import EYE_TERMS, ReconstructionLoss, Terms
from trainer.perceptual import (
    SMALLEST_SIDE_PX,
    PerceptualLoss,
    PerceptualScore,
    PerceptualUnavailable,
)
from training.toy_recordings import HEIGHT, WIDTH, dataset_of, record, scene, toy_settings


def pattern(shift_px: int = 0) -> Tensor:
    """(1, 1, 64, 96): edges at every place and waves of every length."""
    y, x = np.mgrid[:64, :96]
    x = x + shift_px
    values = ((x // 6 + y // 6) % 2) * 0.6 + 0.2 + 0.15 * np.sin(x * y / 50)
    return torch.from_numpy(values.astype(np.float32))[None, None]


def blurred(frame: Tensor, side: int = 5) -> Tensor:
    return F.avg_pool2d(frame, side, 1, side // 2, count_include_pad=False)


@pytest.fixture(scope="module")
def distance() -> PerceptualLoss:
    return PerceptualLoss()


@pytest.fixture
def without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the package is not installed: importing it fails."""
    monkeypatch.setitem(sys.modules, perceptual.PACKAGE, None)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (pattern(shift_px=1), 0.0186251),
        (blurred(pattern()), 0.3254310),
        (1 - pattern(), 0.0111406),
        (torch.zeros(1, 1, 64, 96), 0.9537731),
    ],
    ids=["shifted", "blurred", "negative", "black"],
)
def test_a_distance_is_what_the_authors_code_says(
    distance: PerceptualLoss, other: Tensor, expected: float
) -> None:
    """Expected: stlpips-pytorch 0.0.2, net="alex", variant="shift_tolerant", normalize=True."""
    assert float(distance(pattern(), other)) == pytest.approx(expected, abs=1e-5)
    assert float(distance(other, pattern())) == pytest.approx(expected, abs=1e-5)


def test_the_loss_of_a_batch_is_the_mean_over_its_frames(distance: PerceptualLoss) -> None:
    target = pattern().expand(2, -1, -1, -1)
    frames = torch.cat([pattern(), blurred(pattern())])
    assert float(distance(frames, target)) == pytest.approx(0.3254310 / 2, abs=1e-5)


def test_equal_frames_are_at_no_distance_and_blur_is_seen(distance: PerceptualLoss) -> None:
    distances = [float(distance(blurred(pattern(), side), pattern())) for side in (1, 3, 5, 9)]
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert distances[1] > 0.01


@pytest.mark.parametrize("start", [blurred(pattern()), torch.zeros(1, 1, 64, 96)])
def test_the_gradient_reaches_the_frame_and_no_weight(
    distance: PerceptualLoss, start: Tensor
) -> None:
    frame = start.clone().requires_grad_()
    before = distance(frame, pattern())
    (gradient,) = torch.autograd.grad(before, frame)
    assert torch.isfinite(gradient).all()
    nearer = frame.detach() - 1e-2 * gradient / gradient.norm()
    assert float(distance(nearer, pattern())) < float(before.detach())
    assert not any(weight.requires_grad for weight in distance.parameters())


def test_the_whole_network_follows_a_model_to_its_device() -> None:
    loss = PerceptualLoss().to("meta")
    frame = torch.empty(2, 1, 64, 64, device="meta")
    assert loss(frame, frame).device.type == "meta"


def test_frames_that_are_too_small_are_refused(distance: PerceptualLoss) -> None:
    least = pattern()[..., :SMALLEST_SIDE_PX, :SMALLEST_SIDE_PX]
    # The authors' code on the same two corners.
    other = blurred(pattern())[..., :SMALLEST_SIDE_PX, :SMALLEST_SIDE_PX]
    assert float(distance(least, other)) == pytest.approx(0.1293250, abs=1e-5)
    with pytest.raises(ValueError, match="21 pixels each way, the frame is 20x21"):
        distance(least[..., :-1], least[..., :-1])


def test_pictures_are_scored_like_frames(distance: PerceptualLoss) -> None:
    truth, frame = scene(0), scene(1)
    ours, theirs = (
        torch.from_numpy(picture).float()[None, None] / 255 for picture in (frame, truth)
    )
    score = PerceptualScore()
    assert score.distance(frame, truth) == pytest.approx(float(distance(ours, theirs)), abs=1e-6)
    assert score.distance(truth, truth) == 0


def losses(tmp_path: Path, *overrides: str, whole: bool = True) -> Terms:
    """Terms of the loss of the untrained model, on frames with a whole target or without."""
    settings = toy_settings(tmp_path, *overrides)
    record(tmp_path / "recorded", "a", frames=1, keyframes=whole)
    example = dataset_of(find_segments(tmp_path / "recorded"))[0]
    batch = make_batch([example], settings, torch.device("cpu"))
    terms: Terms
    with torch.no_grad():
        output = build_model(settings.model)(batch.inputs)
        loss, terms = ReconstructionLoss(settings.loss)(output, batch)
    weighted = sum(getattr(settings.loss, name) * float(term) for name, term in terms.items())
    assert float(loss) == pytest.approx(weighted, rel=1e-5)
    return terms


def test_the_loss_has_the_term_where_it_weighs_and_the_target_is_whole(tmp_path: Path) -> None:
    assert "perceptual" not in losses(tmp_path / "off")
    assert "perceptual" not in losses(tmp_path / "samples", "loss.perceptual=0.5", whole=False)
    assert float(losses(tmp_path / "on", "loss.perceptual=0.5")["perceptual"]) > 0


def test_frames_that_are_too_small_for_the_term_are_learned_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cuts may be smaller than the pictures that they come from."""
    weights = ("loss.perceptual=0.5", "loss.structural=0.5")
    assert losses(tmp_path / "fits", *weights).keys() >= set(EYE_TERMS)
    for name in ("SMALLEST_SIDE_PX", "SMALLEST_SSIM_PX"):
        monkeypatch.setattr(trainer.losses, name, HEIGHT + 1)
    small = losses(tmp_path / "is too small", *weights)
    assert small.keys().isdisjoint(EYE_TERMS)
    assert "full" in small


def place_seen(loss: ReconstructionLoss, batch: Batch, frame: Tensor) -> tuple[int, int, int, int]:
    """First row and column that the term hangs on, and how many of each."""
    frame = frame.clone().requires_grad_()
    output = ModelOutput(frame=frame, log_error=torch.zeros(1, 2, 2), entropy=None, attention=None)
    term = loss(output, batch)[1]["perceptual"]
    (gradient,) = torch.autograd.grad(term, frame)
    rows, columns = (gradient[0, 0].any(axis).nonzero().flatten() for axis in (1, 0))
    return int(rows[0]), int(columns[0]), len(rows), len(columns)


def test_a_step_looks_at_a_window_somewhere_and_a_validation_at_the_whole_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.losses, "PERCEPTUAL_WINDOW_PX", 24)
    record(tmp_path, "a", frames=1, keyframes=True)
    settings = toy_settings(tmp_path, "loss.perceptual=1")
    example = dataset_of(find_segments(tmp_path))[0]
    batch = make_batch([example], settings, torch.device("cpu"))
    frame = torch.rand(1, 1, HEIGHT, WIDTH)
    loss = ReconstructionLoss(settings.loss)
    seen = [place_seen(loss, batch, frame) for _ in range(8)]
    assert len({place[:2] for place in seen}) > 1
    assert all(place[2:] == (24, 24) for place in seen)
    assert place_seen(loss.eval(), batch, frame) == (0, 0, HEIGHT, WIDTH)


@pytest.mark.usefixtures("without_weights")
def test_missing_weights_are_told_with_their_cure_where_they_are_needed(tmp_path: Path) -> None:
    assert losses(tmp_path / "off")
    with pytest.raises(PerceptualUnavailable, match=r"pip install 'sgaps-trainer\[perceptual\]'"):
        losses(tmp_path / "on", "loss.perceptual=0.5")
