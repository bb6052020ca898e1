"""A forward pass over a batch: kernel by kernel, or as a graph of kernels that a GPU replays.

A network this small is a thousand short kernels, and a processor needs longer to start them than a
GPU to do them. A graph is started as a whole, but does the same on the same memory every time, so
there is one for each shape of a batch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sgaps.model import ModelInput, SparsePixelTransformer, network_precision

MOST_SHAPES = 32
"""Of which a graph is kept, or how often they came: clients choose sizes and sample counts."""
SEEN_BEFORE_CAPTURE = 2
"""To capture a graph takes as long as a hundred passes: not for a shape that comes once."""
SAMPLES_STEP = 64
"""On a GPU sample counts are rounded up to multiples of this, and batches to powers of two."""
WARM_UP_PASSES = 2
"""Before a capture, for the libraries to choose their kernels."""

Shape: TypeAlias = tuple[object, ...]


class Forward:
    """A model at work on one device."""

    def __init__(self, model: SparsePixelTransformer, device: torch.device) -> None:
        """`model` is on the device; it is this one's own from now on."""
        self._model = model if device.type == "cpu" else in_bfloat16(model)
        self._device = device
        self._shapes: OrderedDict[Shape, int | _Graph] = OrderedDict()
        # One memory for all: they are replayed one after the other, and what they told is copied.
        self._memory = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    @torch.inference_mode()
    def __call__(self, inputs: ModelInput, *, entropy: bool) -> list[NDArray[Any]]:
        """Inputs on the host → frames uint8 (B, H, W), log errors (B, gh, gw) and, on request,
        entropies (B, gh, gw)."""
        if self._device.type == "cpu":
            return [tensor.numpy() for tensor in _told(self._model, inputs, entropy=entropy)]
        # Whether a batch happens to be full must not make another shape of it.
        pinned = replace(inputs, padded=True).pinned()
        return _on_host(self._on_gpu(pinned, entropy=entropy))

    def _on_gpu(self, inputs: ModelInput, *, entropy: bool) -> Sequence[Tensor]:
        shape = _shape_of(inputs, entropy)
        known = self._shapes.pop(shape, 0)
        if isinstance(known, int) and known >= SEEN_BEFORE_CAPTURE:
            known = _Graph(self._model, inputs.on(self._device), self._memory, entropy=entropy)
        self._shapes[shape] = known + 1 if isinstance(known, int) else known
        if len(self._shapes) > MOST_SHAPES:
            self._shapes.popitem(last=False)
        if isinstance(known, _Graph):
            return known.replay(inputs)
        return _told(self._model, inputs.on(self._device), entropy=entropy)


class _Graph:
    """The kernels of one pass over batches of one shape."""

    def __init__(
        self,
        model: SparsePixelTransformer,
        inputs: ModelInput,
        memory: torch.cuda._POOL_HANDLE | None,
        *,
        entropy: bool,
    ) -> None:
        """`inputs` on the GPU: later batches are copied over them."""
        self._inputs = inputs.tensors
        aside = torch.cuda.Stream(inputs.samples.device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP_PASSES):
                _told(model, inputs, entropy=entropy)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=memory):
            self._told = _told(model, inputs, entropy=entropy)

    def replay(self, inputs: ModelInput) -> Sequence[Tensor]:
        """What is told of another batch, until the next one."""
        for name, tensor in inputs.tensors.items():
            self._inputs[name].copy_(tensor, non_blocking=True)
        self._graph.replay()
        return self._told


def in_bfloat16(model: SparsePixelTransformer) -> SparsePixelTransformer:
    """The same model, its weights once and for all in what `network_precision` computes in."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.to(torch.bfloat16)
    return model


def batch_size(frames: int) -> int:
    """Of how many frames a GPU's batch of so many is made."""
    return 1 << (frames - 1).bit_length()


def columns(samples: int) -> int:
    """For how many samples of a frame there is room in a GPU's batch."""
    return -(-samples // SAMPLES_STEP) * SAMPLES_STEP


def _told(model: SparsePixelTransformer, inputs: ModelInput, *, entropy: bool) -> Sequence[Tensor]:
    with network_precision(inputs.samples.device):
        output = model(inputs, return_entropy=entropy)
    frame = output.frame[:, 0].mul(255).round().to(torch.uint8)
    told = (frame, output.log_error, output.entropy)
    return [tensor for tensor in told if tensor is not None]


def _shape_of(inputs: ModelInput, entropy: bool) -> Shape:
    return (
        inputs.samples.shape,
        inputs.present,
        inputs.attended,
        inputs.height,
        inputs.width,
        entropy,
    )


def _on_host(told: Sequence[Tensor]) -> list[NDArray[Any]]:
    """All of it is on its way before the GPU is waited for, once."""
    copies = [torch.empty_like(t, device="cpu", pin_memory=True) for t in told]
    for copy, tensor in zip(copies, told, strict=True):
        copy.copy_(tensor, non_blocking=True)
    torch.cuda.current_stream().synchronize()
    return [copy.numpy() for copy in copies]
