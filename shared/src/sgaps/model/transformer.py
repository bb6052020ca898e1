"""The Sparse Pixel Transformer: samples in, the whole frame and its own doubt out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgaps.model.encodings import ContinuousPositionalEncoding, StateVectorEncoder
from sgaps.model.prior import Prior, pull_push

AGE_SCALE_FRAMES = 8.0


@dataclass(frozen=True, kw_only=True)
class ModelInput:
    """One batch of frames of one resolution. The true frame is no part of it."""

    uv: Tensor
    """(B, N, 2)."""
    value: Tensor
    """(B, N, C) in 0..1."""
    age: Tensor
    """(B, N) in frames; 0 = of this frame, more = of the past."""
    valid: Tensor
    """(B, N) bool; False = padding."""
    state: Tensor
    """(B, S)."""
    state_valid: Tensor
    """(B, S) bool; False = missing."""
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class ModelOutput:
    """What the model says of a batch. gh x gw is the query grid."""

    frame: Tensor
    """(B, C, H, W) in 0..1; at the sampled pixels, the samples."""
    entropy: Tensor
    """(B, gh, gw): entropy of the last cross-attention over log of the sample count, 0..1."""
    log_error: Tensor
    """(B, gh, gw): predicted log of the RMS error in the query's cell."""
    attention: Tensor | None
    """(B, gh * gw, N), mean over heads, on request."""


class Attention(nn.Module):
    """Multi-head attention of queries over tokens."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_query = nn.Linear(dim, dim)
        self.to_key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, tokens: Tensor, bias: Tensor | None) -> Tensor:
        """queries (B, Q, D), tokens (B, N, D), bias (B, 1, 1, N) or None → (B, Q, D)."""
        q, k, v = self._project(queries, tokens)
        return self._merge(F.scaled_dot_product_attention(q, k, v, attn_mask=bias))

    def doubt(
        self, queries: Tensor, tokens: Tensor, bias: Tensor | None, *, dense: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Entropy (B, Q) in nats of `forward`'s attention, mean over heads; no gradient.

        `dense` gives the weights (B, Q, N), mean over heads, as well.
        """
        with torch.no_grad():
            q, k, _ = self._project(queries, tokens)
            if dense or q.device.type != "cpu":
                entropy, weights = entropy_dense(q, k, bias)
                return entropy.mean(1), weights.mean(1) if dense else None
            return entropy_fused(q, k, bias).mean(1), None

    def _project(self, queries: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        k, v = self.to_key_value(tokens).chunk(2, dim=-1)
        return self._split(self.to_query(queries)), self._split(k), self._split(v)

    def _split(self, x: Tensor) -> Tensor:
        """(B, N, D) → (B, heads, N, D / heads)."""
        return x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2)

    def _merge(self, x: Tensor) -> Tensor:
        """(B, heads, N, D / heads) → (B, N, D)."""
        merged: Tensor = self.out(x.transpose(1, 2).flatten(2))
        return merged


def entropy_dense(q: Tensor, k: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """q (B, heads, Q, d), k (B, heads, N, d) → entropy (B, heads, Q), weights (B, heads, Q, N)."""
    scores = (q @ k.transpose(-2, -1)).float() / math.sqrt(q.shape[-1])
    if bias is not None:
        scores = scores + bias
    log_weights = torch.log_softmax(scores, dim=-1)
    weights = log_weights.exp()
    return -torch.xlogy(weights, weights).sum(-1), weights


def entropy_fused(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    """The same entropy without the matrix, on the CPU: H = LSE(s) - E_p[s].

    E_p[s] = scale q · Σ p_j k_j, which is attention with the keys as values.
    """
    scale = 1 / math.sqrt(q.shape[-1])
    mean_key, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, k, attn_mask=bias, scale=scale
    )
    expected = scale * (q.float() * mean_key.float()).sum(-1)
    entropy: Tensor = log_sum - expected
    return entropy


class Block(nn.Module):
    """Pre-norm attention and feed-forward; with `tokens` other than itself, cross-attention."""

    def __init__(self, dim: int, heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.norm_queries = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.norm_ffn = nn.LayerNorm(dim)
        self.ffn = nn.Sequential(nn.Linear(dim, ffn_dim), nn.GELU(), nn.Linear(ffn_dim, dim))

    def forward(self, x: Tensor, tokens: Tensor | None, bias: Tensor | None) -> Tensor:
        """x (B, Q, D), tokens (B, N, D) or None for itself → (B, Q, D)."""
        normed = self.norm_queries(x)
        x = x + self.attention(normed, normed if tokens is None else tokens, bias)
        fed: Tensor = x + self.ffn(self.norm_ffn(x))
        return fed

    def doubt(
        self, x: Tensor, tokens: Tensor, bias: Tensor | None, *, dense: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Entropy (B, Q) and, where `dense`, weights (B, Q, N) of this block's attention."""
        return self.attention.doubt(self.norm_queries(x), tokens, bias, dense=dense)


class SampleEmbedding(nn.Module):
    """A token for each sample: its value, its place, its age."""

    def __init__(self, position: ContinuousPositionalEncoding, channels: int, dim: int) -> None:
        super().__init__()
        self.position = position
        self.mlp = nn.Sequential(
            nn.Linear(channels + position.dim + 2, dim), nn.GELU(), nn.Linear(dim, dim)
        )

    def forward(self, inputs: ModelInput) -> Tensor:
        """→ (B, N, D)."""
        age = torch.stack([inputs.age / AGE_SCALE_FRAMES, (inputs.age > 0).float()], dim=-1)
        features = torch.cat([inputs.value, self.position(inputs.uv), age], dim=-1)
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
        self.patch = nn.Conv2d(channels + 1, dim, kernel_size=stride, stride=stride)
        self.place = nn.Linear(position.dim, dim)

    def forward(self, picture: Tensor) -> Tensor:
        """picture (B, C + 1, H, W), sides multiples of the stride → (B, D, gh, gw)."""
        patches = self.patch(picture)
        rows, columns = patches.shape[-2:]
        v = (torch.arange(rows, device=picture.device) + 0.5) / rows
        u = (torch.arange(columns, device=picture.device) + 0.5) / columns
        uv = torch.stack(torch.meshgrid(v, u, indexing="ij")[::-1], dim=-1)  # (gh, gw, 2)
        queries: Tensor = patches + self.place(self.position(uv)).permute(2, 0, 1)
        return queries


class RefinementHead(nn.Module):
    """From query features to a residual for every pixel. It begins as zero.

    Works at half resolution where the stride allows it: four pixels a cell, a quarter of the cost.
    """

    def __init__(self, dim: int, stride: int, channels: int, width: int) -> None:
        super().__init__()
        self.factor = 2 if stride % 2 == 0 else 1
        cell = stride // self.factor
        self.expand = nn.Sequential(nn.Conv2d(dim, width * cell**2, 1), nn.PixelShuffle(cell))
        fold = self.factor**2
        self.refine = nn.Sequential(
            nn.Conv2d(width + (channels + 1) * fold, 2 * width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.GELU(),
        )
        # Torch's own initialisation would let the signal fade, and the zero layer learn nothing.
        for layer in self.refine:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        # Without a bias: it would first of all learn to swing the brightness of whole frames.
        self.last = nn.Conv2d(2 * width, channels * fold, 3, padding=1, bias=False)
        nn.init.zeros_(self.last.weight)

    def forward(self, queries: Tensor, picture: Tensor) -> Tensor:
        """queries (B, D, gh, gw), picture (B, C + 1, H, W) → residual (B, C, H, W)."""
        folded = F.pixel_unshuffle(picture, self.factor)
        features = self.refine(torch.cat([self.expand(queries), folded], dim=1))
        residual: Tensor = F.pixel_shuffle(self.last(features), self.factor)
        return residual


class SparsePixelTransformer(nn.Module):
    """Residual over a pull-push prior, decoded by cross-attention to the samples."""

    def __init__(
        self,
        *,
        embed: SampleEmbedding,
        encoder: Sequence[Block],
        grid: QueryGrid,
        state: StateVectorEncoder,
        film: nn.Linear,
        decoder: Sequence[Block],
        head: RefinementHead,
        log_error: nn.Linear,
    ) -> None:
        super().__init__()
        self.embed = embed
        self.encoder = nn.ModuleList(encoder)
        self.grid = grid
        self.state = state
        self.film = film
        self.decoder = nn.ModuleList(decoder[:-1])
        self.final = decoder[-1]  # the block whose attention tells the doubt
        self.head = head
        self.log_error = log_error

    def forward(self, inputs: ModelInput, *, return_attention: bool = False) -> ModelOutput:
        """Rebuild a batch of frames from nothing but their samples and state."""
        prior = pull_push(
            inputs.uv,
            inputs.value,
            inputs.valid & (inputs.age == 0),
            height=inputs.height,
            width=inputs.width,
        )
        bias = _attention_bias(inputs.valid)
        tokens = self.embed(inputs)  # (B, N, D)
        for block in self.encoder:
            tokens = block(tokens, None, bias)
        picture = self._padded(prior)  # (B, C + 1, H', W')
        grid = self.grid(picture)  # (B, D, gh, gw)
        queries = self._with_state(grid.flatten(2).transpose(1, 2), inputs)  # (B, Q, D)
        for block in self.decoder:
            queries = block(queries, tokens, bias)
        entropy, attention = self.final.doubt(queries, tokens, bias, dense=return_attention)
        queries = self.final(queries, tokens, bias)
        shape = grid.shape[-2:]
        features = queries.transpose(1, 2).reshape(grid.shape)  # (B, D, gh, gw)
        residual = self.head(features, picture)[..., : inputs.height, : inputs.width]
        frame = (prior.frame + residual).clamp(0, 1)
        count = inputs.valid.sum(1).clamp(min=2).float()  # (B,)
        return ModelOutput(
            frame=torch.where(prior.is_sampled, prior.sampled, frame),
            entropy=(entropy / count.log().unsqueeze(1)).clamp(0, 1).view(-1, *shape),
            log_error=self.log_error(queries).view(-1, *shape),
            attention=attention,
        )

    def _padded(self, prior: Prior) -> Tensor:
        """Prior and confidence, sides filled up to multiples of the stride."""
        picture = torch.cat([prior.frame, prior.confidence], dim=1)
        stride = self.grid.stride
        height, width = picture.shape[-2:]
        return F.pad(picture, (0, -width % stride, 0, -height % stride), mode="replicate")

    def _with_state(self, queries: Tensor, inputs: ModelInput) -> Tensor:
        scale, shift = self.film(self.state(inputs.state, inputs.state_valid)).chunk(2, dim=-1)
        modulated: Tensor = queries * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)
        return modulated


def _attention_bias(valid: Tensor) -> Tensor | None:
    """(B, 1, 1, N): -inf at padding. None without padding, which is faster."""
    if bool(valid.all()):
        return None
    # A frame without any sample attends to its padding: to nothing at all would be NaN.
    usable = valid | ~valid.any(1, keepdim=True)
    bias = torch.zeros(valid.shape, device=valid.device)
    return torch.where(usable, bias, -torch.inf)[:, None, None, :]
