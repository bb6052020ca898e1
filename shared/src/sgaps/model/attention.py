"""Attention that knows distances, and its entropy without the matrix."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

REACH_NEAREST, REACH_FARTHEST = 0.7, 4.0
"""How far the first and the last head look before training, in mean distances between samples."""
HEAD_DIM_MULTIPLE = 8
"""Fused kernels like round sizes."""
LOCATION_DIM = 3
MASK_MULTIPLE = 8
"""Columns of a mask that a GPU's kernel can read; `scaled_dot_product_attention` pads by itself."""


class LocalAttention(nn.Module):
    """Multi-head attention of queries over tokens, less to those that lie farther away.

    Each head subtracts |a - b|² / (2 reach²) from its scores and learns its reach; places are in
    mean distances between samples, so that it means the same at any resolution and sample count.
    Without it a network first has to learn from scratch that what is near matters.

    -|a - b|² is 2 a·b - |b|² and a constant of the query, which a softmax does not see: three more
    numbers in each query and key, and any fused kernel computes it.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_query = nn.Linear(dim, dim)
        self.to_key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        reach = torch.logspace(math.log2(REACH_NEAREST), math.log2(REACH_FARTHEST), heads, base=2)
        self.log_reach = nn.Parameter(reach.log())

    def forward(
        self, queries: Tensor, places: Tensor, tokens: Tensor, origins: Tensor, bias: Tensor | None
    ) -> Tensor:
        """Queries (B, Q, D) at places (B, Q, 2), tokens (B, N, D) at origins (B, N, 2).

        bias (B, 1, 1, N) or None → (B, Q, D).
        """
        keys, values = self.to_key_value(tokens).chunk(2, dim=-1)
        q, k = self._located(self.to_query(queries), places, keys, origins)
        v = _split(values, self.heads).float()
        padded = F.pad(v, (0, k.shape[-1] - v.shape[-1]))  # one size for q, k and v
        with torch.autocast(q.device.type, enabled=False):
            mixed = F.scaled_dot_product_attention(q, k, padded, attn_mask=bias, scale=1.0)
        merged: Tensor = self.out(mixed[..., : v.shape[-1]].transpose(1, 2).flatten(2))
        return merged

    @torch.no_grad()
    def doubt(
        self,
        queries: Tensor,
        places: Tensor,
        tokens: Tensor,
        origins: Tensor,
        bias: Tensor | None,
        *,
        dense: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Entropy (B, Q) in nats of `forward`'s attention, mean over heads; no gradient.

        `dense` gives the weights (B, Q, N), mean over heads, as well.
        """
        keys, _ = self.to_key_value(tokens).chunk(2, dim=-1)
        q, k = self._located(self.to_query(queries), places, keys, origins)
        with torch.autocast(q.device.type, enabled=False):
            if dense:
                entropy, weights = entropy_dense(q, k, bias)
                return entropy.mean(1), weights.mean(1)
            return entropy_fused(q, k, bias).mean(1), None

    def _located(
        self, queries: Tensor, places: Tensor, keys: Tensor, origins: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Queries (B, heads, Q, d) and keys (B, heads, N, d) whose dot product is the score.

        In float32, whatever the network computes in: |b|² is in the hundreds, where bfloat16 knows
        every second whole number, and a frame rebuilt by such scores is 18 of 255 levels off.
        """
        q, k = _split(queries, self.heads), _split(keys, self.heads)
        sharpness = 0.5 * torch.exp(-2 * self.log_reach).view(1, -1, 1, 1)
        near = torch.cat([2 * places, torch.full_like(places[..., :1], -1.0)], dim=-1)
        where = torch.cat([origins, origins.square().sum(-1, keepdim=True)], dim=-1)
        filler = -(q.shape[-1] + LOCATION_DIM) % HEAD_DIM_MULTIPLE
        scaled = q / math.sqrt(q.shape[-1])
        located_q = torch.cat([scaled, sharpness * near.unsqueeze(1)], dim=-1)
        spread = where.unsqueeze(1).expand(-1, self.heads, -1, -1)
        located_k = torch.cat([k, spread], dim=-1)
        return F.pad(located_q, (0, filler)).float(), F.pad(located_k, (0, filler)).float()


def _split(x: Tensor, heads: int) -> Tensor:
    """(B, N, D) → (B, heads, N, D / heads)."""
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)


def entropy_dense(q: Tensor, k: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Of the softmax of q·k: q (B, heads, Q, d), k (B, heads, N, d), bias (B, 1, 1, N).

    Entropy (B, heads, Q) in nats, and the weights (B, heads, Q, N).
    """
    scores = (q @ k.transpose(-2, -1)).float()
    if bias is not None:
        scores = scores + bias
    log_weights = torch.log_softmax(scores, dim=-1)
    weights = log_weights.exp()
    return -torch.xlogy(weights, weights).sum(-1), weights


def entropy_fused(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    """The same entropy without the matrix: H = LSE(s) - E_p[s].

    E_p[s] = q · Σ p_j k_j, which is attention with the keys as values.
    """
    mean_key, log_sum = (_attended_on_cpu if q.device.type == "cpu" else _attended_on_gpu)(
        q, k, bias
    )
    expected = (q.float() * mean_key.float()).sum(-1)
    entropy: Tensor = log_sum - expected
    return entropy


def _attended_on_cpu(q: Tensor, k: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Σ p_j k_j (B, heads, Q, d), and the log of the sum of exponentials (B, heads, Q)."""
    mean_key, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, k, attn_mask=bias, scale=1.0
    )
    return mean_key, log_sum


def _attended_on_gpu(q: Tensor, k: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """As on a CPU, by the kernel that takes float32 and a mask; its rows are filled up."""
    spread = None
    if bias is not None:
        filler = -k.shape[2] % MASK_MULTIPLE
        k = F.pad(k, (0, 0, 0, filler))
        spread = F.pad(bias, (0, filler), value=-torch.inf).expand(-1, q.shape[1], q.shape[2], -1)
    mean_key, log_sum, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        q, k, k, spread, compute_log_sumexp=True, scale=1.0
    )
    return mean_key, log_sum[..., : q.shape[2]]


class EncoderBlock(nn.Module):
    """Pre-norm self-attention of the samples, and feed-forward."""

    def __init__(self, dim: int, heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = LocalAttention(dim, heads)
        self.norm_ffn = nn.LayerNorm(dim)
        self.ffn = _feed_forward(dim, ffn_dim)

    def forward(self, tokens: Tensor, origins: Tensor, bias: Tensor | None) -> Tensor:
        """tokens (B, N, D) at origins (B, N, 2), bias (B, 1, 1, N) → (B, N, D)."""
        normed = self.norm(tokens)
        tokens = tokens + self.attention(normed, origins, normed, origins, bias)
        fed: Tensor = tokens + self.ffn(self.norm_ffn(tokens))
        return fed


class DecoderBlock(nn.Module):
    """Pre-norm cross-attention of the query grid to the samples, and feed-forward.

    Before the feed-forward each query hears its eight neighbours: a depthwise convolution that
    begins as nothing.
    """

    def __init__(self, dim: int, heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.norm_queries = nn.LayerNorm(dim)
        self.attention = LocalAttention(dim, heads)
        self.norm_ffn = nn.LayerNorm(dim)
        self.neighbours = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        for parameter in self.neighbours.parameters():
            nn.init.zeros_(parameter)
        self.ffn = _feed_forward(dim, ffn_dim)

    def forward(
        self,
        x: Tensor,
        places: Tensor,
        tokens: Tensor,
        origins: Tensor,
        bias: Tensor | None,
        shape: tuple[int, int],
    ) -> Tensor:
        """Queries x (B, Q, D) at places (B, Q, 2), Q = gh * gw of shape (gh, gw) → (B, Q, D)."""
        x = x + self.attention(self.norm_queries(x), places, tokens, origins, bias)
        normed = self.norm_ffn(x)
        grid = normed.transpose(1, 2).unflatten(2, shape)  # (B, D, gh, gw)
        heard = self.neighbours(grid).flatten(2).transpose(1, 2)
        fed: Tensor = x + self.ffn(normed + heard)
        return fed

    def doubt(
        self,
        x: Tensor,
        places: Tensor,
        tokens: Tensor,
        origins: Tensor,
        bias: Tensor | None,
        *,
        dense: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Entropy (B, Q) and, where `dense`, weights (B, Q, N) of this block's attention."""
        normed = self.norm_queries(x)
        return self.attention.doubt(normed, places, tokens, origins, bias, dense=dense)


def _feed_forward(dim: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
