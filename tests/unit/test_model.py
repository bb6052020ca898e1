"""The Sparse Pixel Transformer: what it must see, must not see, and must say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

from sgaps.model import ModelInput, SparsePixelTransformer, build_model, collate, pull_push
from sgaps.model.attention import entropy_dense, entropy_fused
from sgaps.model.inputs import as_learned
from sgaps.model.prior import consistent, sliding_mean
from sgaps.model.refinement import CoarseScales, WholeNorm
from sgaps.sampling.footprints import FOOTPRINTS_PX, sample_image
from sgaps.sampling.importance import NOTHING_KNOWN
from sgaps.sampling.quadtree import split_tiling
from toy_models import HEIGHT, WIDTH, picture, samples_of, small

TRUST_UNTRAINED = 0.13
SENTINEL = -999.0


@pytest.fixture
def model() -> SparsePixelTransformer:
    """A small model whose last layer is no longer zero, as if it had been trained."""
    torch.manual_seed(0)
    built = build_model(small()).eval()
    torch.nn.init.normal_(built.head.last.weight, std=0.1)
    torch.nn.init.normal_(built.film.weight, std=0.1)
    torch.nn.init.normal_(built.context.get_parameter("2.weight"), std=0.1)
    return built


def squares_of(image: NDArray[np.uint8], count: int = 40) -> NDArray[np.float32]:
    height, width = image.shape
    rng = np.random.default_rng(1)
    coords = split_tiling(
        NOTHING_KNOWN, guided_share=0, count=count, width=width, height=height, rng=rng
    )
    return sample_image(image, coords)


def inputs_of(
    *sets: NDArray[np.float32],
    state: tuple[float, ...] = (1.0, 2.0),
    history: tuple[tuple[int, NDArray[np.float32]], ...] = (),
    width: int = WIDTH,
    height: int = HEIGHT,
) -> ModelInput:
    return collate(
        [(samples, history, np.array(state, np.float32)) for samples in sets],
        width=width,
        height=height,
        attended_frames=1,
        max_state_dim=5,
        sentinel=SENTINEL,
    )


@torch.no_grad()
def frame_of(model: SparsePixelTransformer, inputs: ModelInput) -> torch.Tensor:
    frame: torch.Tensor = model(inputs).frame
    return frame


def test_an_untrained_model_is_the_prior() -> None:
    inputs = inputs_of(samples_of(picture()))
    frame = frame_of(build_model(small()), inputs)
    prior = pull_push(
        inputs.uv, inputs.value, inputs.footprint, inputs.valid, height=HEIGHT, width=WIDTH
    )
    torch.testing.assert_close(frame, prior.frame)


def in_color(samples: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Gray samples (N, 4), with two more random channels: (N, 6)."""
    others = np.random.default_rng(seed).random((len(samples), 2), np.float32)
    return np.column_stack([samples[:, :3], others, samples[:, 3]])


def test_each_channel_of_a_frame_in_color_is_interpolated_like_a_gray_one() -> None:
    colored = in_color(samples_of(picture()), seed=1)
    frame = frame_of(build_model(small(color_channels=3)), inputs_of(colored))
    assert frame.shape == (1, 3, HEIGHT, WIDTH)
    gray = build_model(small())
    for channel in range(3):
        alone = frame_of(gray, inputs_of(colored[:, [0, 1, 2 + channel, 5]]))
        torch.testing.assert_close(frame[:, channel], alone[:, 0])


def test_a_model_for_color_learns_color() -> None:
    """From gray prior to a frame whose blue is a sharp edge that the samples hardly show."""
    torch.manual_seed(0)
    model = build_model(small(color_channels=3))
    colored = in_color(samples_of(picture()), seed=1)
    past = in_color(samples_of(picture(2)), seed=2)
    inputs = inputs_of(colored, history=((1, past),))
    target = torch.rand(1, 3, HEIGHT, WIDTH)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = F.mse_loss(model(inputs).frame, target)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


def test_pixels_that_were_not_sampled_change_nothing(model: SparsePixelTransformer) -> None:
    image = picture()
    samples = samples_of(image)
    other = picture(seed=5)
    x = (samples[:, 0] * WIDTH).astype(int)
    y = (samples[:, 1] * HEIGHT).astype(int)
    other[y, x] = image[y, x]
    assert not np.allclose(image, other)
    same = frame_of(model, inputs_of(samples_of(other)))
    torch.testing.assert_close(frame_of(model, inputs_of(samples)), same)


def test_sampled_pixels_come_back_exactly(model: SparsePixelTransformer) -> None:
    samples = samples_of(picture())
    frame = frame_of(model, inputs_of(samples))[0, 0].numpy()
    x = (samples[:, 0] * WIDTH).astype(int)
    y = (samples[:, 1] * HEIGHT).astype(int)
    np.testing.assert_array_equal(frame[y, x], samples[:, 2])


def test_sampled_squares_have_their_mean(model: SparsePixelTransformer) -> None:
    image = (picture() * 255).astype(np.uint8)
    samples = squares_of(image)
    assert len(np.unique(samples[:, 3])) > 1
    rebuilt = frame_of(model, inputs_of(samples))
    again = sample_image((rebuilt[0, 0] * 255).round().byte().numpy(), samples[:, [0, 1, 3]])
    # Not exactly: a frame ends at black and white.
    assert np.quantile(np.abs(again[:, 2] - samples[:, 2]), 0.9) < 0.01


def test_squares_of_black_and_white_have_their_mean(model: SparsePixelTransformer) -> None:
    """What is cut off at black or white is made up for by the rest of its square."""
    image = np.where(picture() > 0.9, 255, 0).astype(np.uint8)
    samples = squares_of(image)
    rebuilt = frame_of(model, inputs_of(samples))
    assert float(rebuilt.min()) >= 0
    assert float(rebuilt.max()) <= 1
    again = sample_image((rebuilt[0, 0] * 255).round().byte().numpy(), samples[:, [0, 1, 3]])
    assert np.abs(again[:, 2] - samples[:, 2]).mean() < 0.01


def test_making_a_frame_agree_with_its_samples_takes_it_nearer_to_the_truth() -> None:
    image = (picture() * 255).astype(np.uint8)
    truth = torch.from_numpy(image).float().div(255)[None, None]
    inputs = inputs_of(squares_of(image))
    prior = pull_push(
        inputs.uv, inputs.value, inputs.footprint, inputs.valid, height=HEIGHT, width=WIDTH
    )
    guess = torch.rand(1, 1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    before = (guess - truth).square().mean()
    after = (consistent(guess, prior.levels) - truth).square().mean()
    assert after < before


def test_the_memory_holds_the_newest_sample_of_a_place(model: SparsePixelTransformer) -> None:
    now, past = samples_of(picture()), samples_of(picture(7))
    older = past.copy()
    older[:, 2] = 1 - older[:, 2]
    hidden = inputs_of(now, history=((1, past), (2, older)))
    torch.testing.assert_close(
        frame_of(model, hidden), frame_of(model, inputs_of(now, history=((1, past),)))
    )


def test_the_order_of_samples_means_nothing(model: SparsePixelTransformer) -> None:
    samples = samples_of(picture())
    shuffled = np.random.default_rng(3).permutation(samples)
    torch.testing.assert_close(
        frame_of(model, inputs_of(samples)), frame_of(model, inputs_of(shuffled))
    )


def test_padding_means_nothing(model: SparsePixelTransformer) -> None:
    short, long = samples_of(picture(), 20), samples_of(picture(2), 40)
    together = model(inputs_of(short, long), return_entropy=True)
    alone = model(inputs_of(short), return_entropy=True)
    torch.testing.assert_close(together.frame[:1], alone.frame)
    torch.testing.assert_close(together.entropy[:1], alone.entropy)
    torch.testing.assert_close(together.log_error[:1], alone.log_error)


def test_history_is_seen_but_not_taken_for_the_present(model: SparsePixelTransformer) -> None:
    now, past = samples_of(picture()), samples_of(picture(7), 30)
    with_history = inputs_of(now, history=((2, past),))
    assert not torch.equal(frame_of(model, with_history), frame_of(model, inputs_of(now)))
    untrained = build_model(small())
    change = frame_of(untrained, with_history) - frame_of(untrained, inputs_of(now))
    assert 0 < change.abs().max() < TRUST_UNTRAINED


@pytest.mark.parametrize("missing", [SENTINEL, float("nan"), float("inf"), 1.78e9, -3e38])
def test_missing_state_is_masked(model: SparsePixelTransformer, missing: float) -> None:
    samples = samples_of(picture())
    marked = frame_of(model, inputs_of(samples, state=(1.0, missing, missing)))
    short = frame_of(model, inputs_of(samples, state=(1.0,)))
    other = frame_of(model, inputs_of(samples, state=(1.0, 1e7)))
    torch.testing.assert_close(marked, short)
    assert not torch.allclose(short, other)


def test_a_state_of_another_length_is_cut_or_taken_as_missing(
    model: SparsePixelTransformer,
) -> None:
    inputs = inputs_of(samples_of(picture()), state=(1.0, 2.0, 3.0, 4.0, 5.0))
    longer = dataclasses.replace(
        inputs,
        state=F.pad(inputs.state, (0, 3), value=7.0),
        state_valid=F.pad(inputs.state_valid, (0, 3), value=True),
    )
    shorter = dataclasses.replace(
        inputs, state=inputs.state[:, :2], state_valid=inputs.state_valid[:, :2]
    )
    two = inputs_of(samples_of(picture()), state=(1.0, 2.0))
    torch.testing.assert_close(frame_of(model, longer), frame_of(model, inputs))
    torch.testing.assert_close(frame_of(model, shorter), frame_of(model, two))


def test_a_frame_without_samples_is_no_exception(model: SparsePixelTransformer) -> None:
    inputs = inputs_of(np.empty((0, 4), np.float32), samples_of(picture()))
    output = model(inputs, return_entropy=True)
    assert torch.isfinite(output.frame).all()
    assert torch.isfinite(output.entropy).all()
    empty = inputs_of(np.empty((0, 4), np.float32))
    gray = torch.full((1, 1, HEIGHT, WIDTH), 0.5)
    torch.testing.assert_close(frame_of(build_model(small()), empty), gray)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 5, 8]))
@hypothesis_settings(max_examples=25)
def test_any_resolution_and_stride(width: int, height: int, stride: int) -> None:
    samples = samples_of(picture(0, width, height), min(width * height, 9))
    inputs = inputs_of(samples, width=width, height=height)
    output = build_model(small(query_stride=stride))(inputs, return_entropy=True)
    assert output.frame.shape == (1, 1, height, width)
    assert output.entropy.shape == (1, -(-height // stride), -(-width // stride))
    assert output.log_error.shape == output.entropy.shape


@pytest.mark.parametrize(
    ("size", "learned"),
    [
        ((1, 1), (1, 1)),
        ((8192, 4), (8192, 4)),
        ((400, 300), (400, 300)),
        ((512, 384), (256, 192)),
        ((641, 479), (321, 240)),
        ((1920, 1080), (480, 270)),
        ((8192, 8192), (256, 256)),
    ],
)
def test_large_pictures_are_rebuilt_in_a_size_that_was_learned(
    size: tuple[int, int], learned: tuple[int, int]
) -> None:
    samples = np.array([[0.5, 0.5, 0.5, side] for side in FOOTPRINTS_PX], np.float32)
    width, height = size
    seen = as_learned(inputs_of(samples, width=width, height=height))
    assert (seen.width, seen.height) == learned
    shrunk = 2 ** round(np.log2(width / learned[0]))
    assert seen.footprint[0].tolist() == [max(1, side // shrunk) for side in FOOTPRINTS_PX]


def test_a_large_picture_agrees_with_its_samples(model: SparsePixelTransformer) -> None:
    width, height = 640, 480
    image = np.kron(picture(0, 80, 60) * 255, np.ones((8, 8))).astype(np.uint8)
    samples = squares_of(image, 500)
    output = model(inputs_of(samples, width=width, height=height))
    assert output.frame.shape == (1, 1, height, width)
    assert output.log_error.shape == (1, 30, 40)
    rebuilt = np.round(output.frame[0, 0].detach().numpy() * 255).astype(np.uint8)
    told = sample_image(rebuilt, samples[:, [0, 1, 3]])[:, 2]
    np.testing.assert_allclose(told, samples[:, 2], atol=2 / 255)


@pytest.mark.parametrize("padded", [False, True])
def test_entropy_without_the_matrix_is_the_entropy(padded: bool) -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 3, 70, 16), torch.randn(2, 3, 50, 16)
    bias = torch.zeros(2, 1, 1, 50)
    bias[1, ..., 30:] = -torch.inf if padded else 0.0
    dense, weights = entropy_dense(q, k, bias)
    torch.testing.assert_close(entropy_fused(q, k, bias), dense, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 70))
    attended = F.scaled_dot_product_attention(q, k, k, attn_mask=bias, scale=1.0)
    torch.testing.assert_close(weights @ k, attended, atol=1e-5, rtol=1e-4)


def test_attention_comes_on_request(model: SparsePixelTransformer) -> None:
    inputs = inputs_of(samples_of(picture()))
    plain = model(inputs)
    assert plain.entropy is None
    assert plain.attention is None
    plain = model(inputs, return_entropy=True)
    asked = model(inputs, return_attention=True)
    assert plain.attention is None
    assert asked.attention.shape == (1, 4 * 5, 40)
    torch.testing.assert_close(asked.entropy, plain.entropy, atol=1e-5, rtol=1e-5)
    assert 0 <= float(plain.entropy.min()) <= float(plain.entropy.max()) <= 1


def test_every_parameter_learns() -> None:
    model = build_model(small())
    torch.nn.init.normal_(model.head.last.weight, std=0.1)
    torch.nn.init.normal_(model.head.coarse.get_parameter("up.0.weight"), std=0.1)
    torch.nn.init.normal_(model.film.weight, std=0.1)
    torch.nn.init.normal_(model.context.get_parameter("2.weight"), std=0.1)
    torch.nn.init.normal_(model.log_error.weight, std=0.1)
    output = model(inputs_of(samples_of(picture())))
    (output.frame.square().mean() + output.log_error.square().mean()).backward()
    still = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum()
    ]
    assert still == []


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (16, 24)])
def test_coarse_scales_begin_as_nothing(size: tuple[int, int]) -> None:
    features = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(CoarseScales(4, (6, 8))(features), features)


def test_coarse_scales_look_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven blocks away, through convolutions: a norm would carry any change everywhere."""
    monkeypatch.setattr(WholeNorm, "forward", lambda _, features: features)
    torch.manual_seed(0)
    scales = CoarseScales(4, (6, 8))
    torch.nn.init.normal_(scales.get_parameter("up.0.weight"), std=0.1)
    features = torch.randn(2, 4, 8, 8)
    elsewhere = features.clone()
    elsewhere[..., -1, -1] += 1
    assert (scales(elsewhere) - scales(features))[..., 0, 0].abs().min() > 0


def test_a_norm_in_steps_is_torchs() -> None:
    torch.manual_seed(0)
    norm = WholeNorm(1, 3)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    features = 5 + 2 * torch.randn(2, 3, 7, 9)
    torch.testing.assert_close(norm.in_steps(features), norm(features))


def test_room_for_more_samples_and_frames_changes_nothing(model: SparsePixelTransformer) -> None:
    """As a batch on a GPU has it, whose shapes are few."""
    frames = [
        (samples_of(picture(seed)), ((1, samples_of(picture(9), 30)),), np.ones(2, np.float32))
        for seed in (0, 1)
    ]
    tight, roomy = (
        collate(
            frames,
            width=WIDTH,
            height=HEIGHT,
            attended_frames=1,
            max_state_dim=5,
            sentinel=SENTINEL,
            room=room,
        )
        for room in ((1, 0), (64, 2))
    )
    assert (tight.present, tight.samples.shape) == (40, (2, 40 + 30, 5))
    assert not tight.padded
    assert roomy.samples.shape == (2, 3 * 64, 5)
    assert (roomy.present, roomy.attended, int(roomy.valid.sum())) == (64, 2 * 64, 2 * 70)
    expected = model(tight, return_entropy=True)
    got = model(roomy, return_entropy=True)
    for name in ("frame", "log_error", "entropy"):
        torch.testing.assert_close(getattr(got, name), getattr(expected, name))


def test_the_input_holds_no_true_frame() -> None:
    names = {field.name for field in dataclasses.fields(ModelInput)}
    assert names == {
        *("samples", "present", "attended", "valid", "padded"),
        *("state", "state_valid", "height", "width"),
    }


def test_brightness_and_contrast_of_a_frame_do_not_matter(model: SparsePixelTransformer) -> None:
    image = 0.25 + 0.5 * picture()
    darker = samples_of(0.2 + 0.4 * image)
    bright, dark = frame_of(model, inputs_of(samples_of(image))), frame_of(model, inputs_of(darker))
    # Not exactly: the least contrast is the same for both. Clamped pixels tell nothing.
    inside = (bright > 0) & (bright < 1) & (dark > 0)
    assert inside.float().mean() > 0.5
    torch.testing.assert_close(dark[inside], (0.2 + 0.4 * bright)[inside], atol=0.03, rtol=0)


def test_attention_falls_with_distance_and_is_the_same_at_any_resolution() -> None:
    torch.manual_seed(0)
    model = build_model(small()).eval()
    samples = samples_of(picture())
    weights = model(inputs_of(samples), return_attention=True).attention[0]  # (20, 40)
    rows, columns = np.meshgrid((np.arange(4) + 0.5) / 4, (np.arange(5) + 0.5) / 5, indexing="ij")
    grid = np.column_stack([columns.ravel(), rows.ravel()]) * [WIDTH, HEIGHT]
    distance_px = np.linalg.norm(grid[:, None] - samples[:, :2] * [WIDTH, HEIGHT], axis=-1)
    nearest = np.take_along_axis(weights.numpy(), distance_px.argsort(axis=1)[:, :10], axis=1)
    assert nearest.sum(1).min() > 0.6  # a quarter of the samples; evenly, it would be 0.25
    larger = model(
        inputs_of(samples, width=2 * WIDTH, height=2 * HEIGHT), return_attention=True
    ).attention[0]
    assert larger.shape == (7 * 9, 40)


def test_history_alone_is_not_refined_by_the_present(model: SparsePixelTransformer) -> None:
    """Padding between the present and the past of a batch is no sample."""
    short, long = samples_of(picture(), 20), samples_of(picture(2), 40)
    history = ((1, samples_of(picture(4), 15)),)
    alone_inputs = inputs_of(short, history=history)
    padded_inputs = inputs_of(short, long, history=history)
    assert (alone_inputs.padded, padded_inputs.padded) == (False, True)
    alone = model(alone_inputs, return_entropy=True)
    together = model(padded_inputs, return_entropy=True)
    torch.testing.assert_close(together.frame[:1], alone.frame)
    torch.testing.assert_close(together.entropy[:1], alone.entropy)


def test_the_network_may_compute_in_bfloat16(model: SparsePixelTransformer) -> None:
    """As it does on a GPU while it trains; the same dtypes meet on a CPU."""
    inputs = inputs_of(samples_of(picture()), history=((1, samples_of(picture(3))),))
    exact = model(inputs, return_attention=True)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(inputs, return_attention=True)
    torch.testing.assert_close(rough.attention, exact.attention, atol=0.01, rtol=0.05)
    torch.testing.assert_close(rough.entropy, exact.entropy, atol=0.01, rtol=0.05)
    assert rough.frame.dtype == rough.log_error.dtype == torch.float32
    assert 0 < (rough.frame - exact.frame).abs().max() < 0.1
    rough.frame.square().mean().backward()


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (17, 30)])
def test_smoothing_is_the_mean_of_the_neighbours(size: tuple[int, int]) -> None:
    a = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    smoothed = sliding_mean(sliding_mean(a, dim=-1), dim=-2)
    pooled = F.avg_pool2d(a, 3, stride=1, padding=1, count_include_pad=False)
    torch.testing.assert_close(smoothed, pooled)
