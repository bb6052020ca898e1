"""The Sparse Pixel Transformer: samples in, the whole frame and its own doubt out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgaps.model.attention import DecoderBlock, EncoderBlock
from sgaps.model.encodings import ContinuousPositionalEncoding, StateVectorEncoder
from sgaps.model.inputs import ModelInput, as_learned
from sgaps.model.prior import (
    FOOTPRINT_LEVELS,
    MID_GRAY,
    Level,
    Prior,
    consistent,
    newest_in_cell,
    pull_push,
    sampled,
)
from sgaps.model.refinement import RefinementHead

PROJECTIONS = 4
"""Onto the frames that have the sampled means, and onto those between black and white, in turn: the
true frame is among both, so each brings a guess nearer (Bregman 1965)."""
AGE_SCALE_FRAMES = 8.0
LEAST_CONTRAST = 0.02
"""Added to the deviation of the samples: a flat frame is not blown up to noise."""
TRUST_AT_FIRST = -2.0
"""Logit of how far an untrained model takes the memory for the present: 12 %."""


@dataclass(frozen=True, kw_only=True)
class ModelOutput:
    """What the model says of a batch. gh x gw is the query grid."""

    frame: Tensor
    """(B, C, H, W) in 0..1; at the sampled pixels, the samples."""
    log_error: Tensor
    """(B, gh, gw): predicted log of the RMS error in the query's cell."""
    entropy: Tensor | None
    """(B, gh, gw): entropy of the last cross-attention over log of the sample count, 0..1; on
    request, for training has no use for it."""
    attention: Tensor | None
    """(B, gh * gw, N), mean over heads, on request."""


def picture_channels(color_channels: int) -> int:
    """Of the picture that queries and head see: two interpolations, how sure of each, an age."""
    return 2 * color_channels + 3


class SampleEmbedding(nn.Module):
    """A token for each sample: its value, its place, its age."""

    def __init__(self, position: ContinuousPositionalEncoding, channels: int, dim: int) -> None:
        super().__init__()
        self.position = position
        self.mlp = nn.Sequential(
            nn.Linear(channels + position.dim + 3, dim), nn.GELU(), nn.Linear(dim, dim)
        )

    def forward(self, samples: ModelInput, value: Tensor) -> Tensor:
        """value (B, N, C): the samples as the network should see them → (B, N, D)."""
        level = samples.footprint.log2() / FOOTPRINT_LEVELS
        age = samples.age / AGE_SCALE_FRAMES
        what = torch.stack([level, age, (samples.age > 0).float()], dim=-1)
        features = torch.cat([value, self.position(samples.uv), what], dim=-1)
        tokens: Tensor = self.mlp(features)
        return tokens


class QueryGrid(nn.Module):
    """A query for each cell of `stride` pixels: its place, and what the prior shows there."""

    def __init__(
        self, position: ContinuousPositionalEncoding, stride: int, channels: int, dim: int
    ) -> None:
        super().__init__()
        self.position = position
        self.stride = stride
        self.patch = nn.Conv2d(channels, dim, kernel_size=stride, stride=stride)
        self.place = nn.Linear(position.dim, dim)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """picture (B, channels, gh * stride, gw * stride).

        → queries (B, D, gh, gw), and where they are: uv (gh * gw, 2).
        """
        patches = self.patch(picture)
        rows, columns = patches.shape[-2:]
        v = (torch.arange(rows, device=picture.device) + 0.5) / rows
        u = (torch.arange(columns, device=picture.device) + 0.5) / columns
        uv = torch.stack(torch.meshgrid(v, u, indexing="ij")[::-1], dim=-1)  # (gh, gw, 2)
        queries: Tensor = patches + self.place(self.position(uv)).permute(2, 0, 1)
        return queries, uv.flatten(0, 1)


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """Brightness and contrast of the samples of each frame: the network sees neither."""

    mean: Tensor
    """(B, 1, C)."""
    deviation: Tensor
    """(B, 1, C)."""

    @classmethod
    def of(cls, value: Tensor, known: Tensor) -> _Scale:
        """value (B, N, C), known (B, N) bool."""
        weight = known.unsqueeze(-1).to(value.dtype)
        count = weight.sum(1, keepdim=True)
        mean = (value * weight).sum(1, keepdim=True) / count.clamp(min=1)
        mean = torch.where(count > 0, mean, MID_GRAY)
        variance = ((value - mean).square() * weight).sum(1, keepdim=True) / count.clamp(min=1)
        return cls(mean=mean, deviation=variance.sqrt() + LEAST_CONTRAST)

    def normalised(self, value: Tensor) -> Tensor:
        """(B, N, C) → (B, N, C)."""
        return (value - self.mean) / self.deviation

    def normalised_picture(self, picture: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        return (picture - self.mean.mT.unsqueeze(-1)) / self.contrast

    @property
    def contrast(self) -> Tensor:
        """(B, C, 1, 1)."""
        return self.deviation.mT.unsqueeze(-1)


class SparsePixelTransformer(nn.Module):
    """Residual over a pull-push prior, decoded by cross-attention to the samples."""

    def __init__(
        self,
        *,
        embed: SampleEmbedding,
        encoder: Sequence[EncoderBlock],
        grid: QueryGrid,
        state: StateVectorEncoder,
        context: nn.Sequential,
        film: nn.Linear,
        decoder: Sequence[DecoderBlock],
        head: RefinementHead,
        log_error: nn.Linear,
    ) -> None:
        super().__init__()
        self.embed = embed
        self.encoder = nn.ModuleList(encoder)
        self.norm_tokens = nn.LayerNorm(film.in_features)
        self.grid = grid
        self.state = state
        self.context = context
        self.film = film
        self.decoder = nn.ModuleList(decoder[:-1])
        self.final = decoder[-1]  # the block whose attention tells the doubt
        self.head = head
        self.log_error = log_error

    def forward(
        self, inputs: ModelInput, *, return_entropy: bool = False, return_attention: bool = False
    ) -> ModelOutput:
        """Rebuild a batch of frames from nothing but their samples and state."""
        whole, inputs = inputs, as_learned(inputs)
        present = inputs.valid & (inputs.age == 0)
        size = (inputs.height, inputs.width)
        now, memory = _pictures(inputs, present)
        scale = _Scale.of(inputs.value, present)
        picture = _resized(_seen(now, memory, scale), self._whole_cells(*size))
        grid, grid_uv = self.grid(picture)  # (B, D, gh, gw), (Q, 2)
        attended = _newest(inputs)
        measure = _per_sample_spacing(present, *size)  # (B, 1, 2)
        # From the middle: attention squares them, and a long thin frame has room for few digits.
        origins, places = (attended.uv - 0.5) * measure, (grid_uv - 0.5) * measure
        bias = _attention_bias(attended.valid) if inputs.padded else None
        tokens = self.embed(attended, scale.normalised(attended.value))  # (B, N, D)
        tokens = self._encoded(tokens, origins, bias, inputs.present)
        shape = (grid.shape[-2], grid.shape[-1])
        scene = self._scene(tokens, inputs, present)
        queries = self._modulated(grid.flatten(2).transpose(1, 2), scene)  # (B, Q, D)
        for block in self.decoder:
            queries = block(queries, places, tokens, origins, bias, shape)
        entropy, attention = None, None
        if return_entropy or return_attention:
            entropy, attention = self.final.doubt(
                queries, places, tokens, origins, bias, dense=return_attention
            )
            count = attended.valid.sum(1, keepdim=True).clamp(min=2).float()  # (B, 1)
            entropy = (entropy / count.log()).clamp(0, 1).view(-1, *shape)
        queries = self.final(queries, places, tokens, origins, bias, shape)
        decoded = queries.transpose(1, 2).reshape(grid.shape)  # (B, D, gh, gw)
        # In float32, whatever the network computed in: a frame has finer levels than bfloat16.
        details = _resized(self.head(decoded, picture).float(), size)
        residual, trust = details.tensor_split([-1], dim=1)
        base = torch.lerp(now.frame, memory.frame[:, :-1], trust.add(TRUST_AT_FIRST).sigmoid())
        frame = _resized(base + scale.contrast * residual, (whole.height, whole.width))
        levels = now.levels if inputs is whole else _levels(whole, present)
        for _ in range(PROJECTIONS):
            frame = consistent(frame, levels).clamp(0, 1)
        contrast = scale.deviation.mean(-1, keepdim=True)  # (B, 1, 1)
        return ModelOutput(
            frame=frame,
            log_error=self.log_error(queries).float().view(-1, *shape) + contrast.log(),
            entropy=entropy,
            attention=attention,
        )

    def _encoded(
        self, tokens: Tensor, origins: Tensor, bias: Tensor | None, present: int
    ) -> Tensor:
        """Tokens (B, N, D) → the same, those of this frame having seen one another.

        What is past is only looked at, by the queries: to refine it too would cost four times that.
        """
        now, past = tokens[:, :present], tokens[:, present:]
        places = origins[:, :present]
        now_bias = None if bias is None else bias[..., :present]
        for block in self.encoder:
            now = block(now, places, now_bias)
        encoded: Tensor = self.norm_tokens(torch.cat([now, past], dim=1))
        return encoded

    def _whole_cells(self, height: int, width: int) -> tuple[int, int]:
        """Sides in whole strides. The grid covers the frame exactly, whatever its resolution."""
        stride = self.grid.stride
        return -(-height // stride) * stride, -(-width // stride) * stride

    def _scene(self, tokens: Tensor, inputs: ModelInput, present: Tensor) -> Tensor:
        """(B, D): what game and place this is, by its state and by all its samples together.

        Not every client sends a state, and that of another game means something else.
        """
        seen = present[:, : inputs.present].unsqueeze(-1).to(tokens.dtype)  # (B, N, 1)
        mean = (tokens[:, : inputs.present] * seen).sum(1) / seen.sum(1).clamp(min=1)
        scene: Tensor = self.state(inputs.state, inputs.state_valid) + self.context(mean)
        return scene

    def _modulated(self, queries: Tensor, scene: Tensor) -> Tensor:
        """FiLM (Perez et al. 2018): queries (B, Q, D), scene (B, D) → (B, Q, D)."""
        scale, shift = self.film(scene).chunk(2, dim=-1)
        modulated: Tensor = queries * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)
        return modulated


def _levels(inputs: ModelInput, present: Tensor) -> Sequence[Level]:
    """What the samples of this frame say of its picture. present (B, N) bool."""
    size = {"height": inputs.height, "width": inputs.width}
    return sampled(inputs.uv, inputs.value, inputs.footprint, present, **size)


def _pictures(inputs: ModelInput, present: Tensor) -> tuple[Prior, Prior]:
    """Of this frame's samples, and of the newest of each place, this frame's or older; the latter
    with another channel, the age. present (B, N) bool.

    Interpolated together: as many steps, each of twice the size.
    """
    size = {"height": inputs.height, "width": inputs.width}
    newest = newest_in_cell(inputs.uv, inputs.footprint, inputs.age, inputs.valid, **size)
    aged = torch.cat([inputs.value, inputs.age.unsqueeze(-1) / AGE_SCALE_FRAMES], dim=-1)
    both = pull_push(
        inputs.uv.repeat(2, 1, 1),
        aged.repeat(2, 1, 1),
        inputs.footprint.repeat(2, 1),
        torch.cat([present, newest]),
        **size,
    )
    frames = len(present)
    now = both.rows(slice(frames), channels=slice(-1))
    return now, both.rows(slice(frames, None), channels=slice(None))


def _seen(now: Prior, memory: Prior, scale: _Scale) -> Tensor:
    """What queries and head see: (B, picture_channels, H, W)."""
    remembered, age = memory.frame[:, :-1], memory.frame[:, -1:]
    return torch.cat(
        [
            scale.normalised_picture(now.frame),
            now.confidence,
            scale.normalised_picture(remembered),
            memory.confidence,
            age,
        ],
        dim=1,
    )


def _newest(inputs: ModelInput) -> ModelInput:
    """The samples that become tokens."""
    first = slice(None, inputs.attended)
    return replace(
        inputs,
        samples=inputs.samples[:, first],
        valid=inputs.valid[:, first],
    )


def _resized(picture: Tensor, size: tuple[int, int]) -> Tensor:
    if picture.shape[-2:] == size:
        return picture
    return F.interpolate(picture, size=size, mode="bilinear", align_corners=False)


def _per_sample_spacing(present: Tensor, height: int, width: int) -> Tensor:
    """(B, 1, 2): what (u, v) is multiplied with to be in mean distances between samples."""
    count = present.sum(1).clamp(min=1).float()  # (B,)
    # Not `new_tensor`: a GPU would be waited for, and no graph of its work could hold the copy.
    size = torch.stack([count.new_full((), side) for side in (width, height)])
    measure: Tensor = size * (count / (height * width)).sqrt().view(-1, 1, 1)
    return measure


def _attention_bias(valid: Tensor) -> Tensor:
    """(B, 1, 1, N): -inf at padding. Without padding there is none, which is faster."""
    # A frame without any sample attends to its padding: to nothing at all would be NaN.
    usable = valid | ~valid.any(1, keepdim=True)
    bias = torch.zeros(valid.shape, device=valid.device)
    return torch.where(usable, bias, -torch.inf)[:, None, None, :]
