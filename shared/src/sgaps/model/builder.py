"""All the numbers of the model come together here."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from sgaps.model.attention import DecoderBlock, EncoderBlock
from sgaps.model.encodings import ContinuousPositionalEncoding, StateVectorEncoder
from sgaps.model.refinement import RefinementHead
from sgaps.model.transformer import (
    QueryGrid,
    SampleEmbedding,
    SparsePixelTransformer,
    picture_channels,
)
from sgaps.settings import ModelSettings

TYPICAL_ERROR = 0.5
"""RMS error of the prior on games, in deviations of the samples: where the error head begins."""


def build_model(settings: ModelSettings) -> SparsePixelTransformer:
    """An untrained model: its frame is the pull-push prior, made to agree with the samples."""
    dim, channels = settings.embed_dim, settings.color_channels
    block = (dim, settings.num_heads, settings.ffn_dim)
    position = ContinuousPositionalEncoding(settings.position_frequencies)
    seen = picture_channels(channels)
    head = RefinementHead(
        dim,
        settings.query_stride,
        channels_in=seen,
        channels_out=channels + 1,
        width=settings.refine_channels,
        coarse_widths=settings.coarse_channels,
    )
    convert_conv2d_weight_memory_format(head, torch.channels_last)
    return SparsePixelTransformer(
        embed=SampleEmbedding(position, channels, dim),
        encoder=[EncoderBlock(*block) for _ in range(settings.encoder_layers)],
        grid=QueryGrid(position, settings.query_stride, seen, dim),
        state=StateVectorEncoder(settings.max_state_dim, settings.state_frequencies, dim),
        context=nn.Sequential(
            nn.Linear(dim, dim), nn.GELU(), _zeroed(nn.Linear(dim, dim), bias=0.0)
        ),
        film=_zeroed(nn.Linear(dim, 2 * dim), bias=0.0),
        decoder=[DecoderBlock(*block) for _ in range(settings.decoder_layers)],
        head=head,
        log_error=_zeroed(nn.Linear(dim, 1), bias=math.log(TYPICAL_ERROR)),
    )


def _zeroed(layer: nn.Linear, *, bias: float) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, bias)
    return layer
