"""A forward pass over a batch: kernel by kernel, or as a graph of kernels that a GPU replays.

A network this small is a thousand short kernels, and a processor needs longer to start them than a
GPU to do them. A graph is started as a whole, but does the same on the same memory every time, so
there is one for each shape of a batch.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sgaps.model import ModelInput, SparsePixelTransformer, network_precision

MOST_GRAPHS = 32
"""Of a model: clients choose sizes and sample counts. A new checkpoint has none at first."""
MOST_COUNTED = 256
"""Shapes of which it is known how often they came."""
SEEN_BEFORE_CAPTURE = 2
"""To capture a graph takes as long as a hundred passes: not for a shape that comes once."""
SEEN_BEFORE_EXCHANGE = 100
"""Where another graph has to go for it: shapes that come in turn would drive out one another."""
SAMPLES_STEP = 64
"""On a GPU sample counts are rounded up to multiples of this, and batches to powers of two."""
WARM_UP_PASSES = 2
"""Before a capture, for the libraries to choose their kernels."""

log = logging.getLogger(__name__)
Shape: TypeAlias = tuple[object, ...]
_Kept = TypeVar("_Kept")


class Forward:
    """A model at work on one device; one call at a time."""

    def __init__(self, model: SparsePixelTransformer, device: torch.device) -> None:
        """`model` is on the device; it is this one's own from now on."""
        self._device = device
        self._model = model if device.type == "cpu" else in_bfloat16(model)
        self._graphs: OrderedDict[Shape, _Graph | None] = OrderedDict()
        """None where a capture failed. As below, what was wanted last comes last."""
        self._seen: OrderedDict[Shape, int] = OrderedDict()
        # One memory for all: they are replayed one after the other, and what they told is copied.
        self._memory = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    @torch.inference_mode()
    def __call__(self, inputs: ModelInput, *, entropy: bool) -> list[NDArray[Any]]:
        """Inputs on the host → frames uint8 (B, H, W), log errors (B, gh, gw) and, on request,
        entropies (B, gh, gw)."""
        if self._device.type == "cpu":
            return [tensor.numpy() for tensor in _told(self._model, inputs, entropy=entropy)]
        # Streams and graphs are of the current GPU, which is the first one until told otherwise.
        with torch.cuda.device(self._device):
            # Whether a batch happens to be full must not make another shape of it.
            pinned = replace(inputs, padded=True).pinned()
            return _on_host(self.on_gpu(pinned, entropy=entropy))

    def on_gpu(self, inputs: ModelInput, *, entropy: bool) -> Sequence[Tensor]:
        """By the graph of this shape, if it is worth one."""
        shape = _shape_of(inputs, entropy)
        graph = None
        if shape in self._graphs:
            graph = self._graphs[shape]
            _keep(self._graphs, shape, graph, most=MOST_GRAPHS)
        elif self._is_worth_a_graph(shape):
            graph = self._captured(inputs, entropy=entropy)
            _keep(self._graphs, shape, graph, most=MOST_GRAPHS)
        if graph:
            return graph.replay(inputs)
        return _told(self._model, inputs.on(self._device), entropy=entropy)

    def _is_worth_a_graph(self, shape: Shape) -> bool:
        """Counts how often it came; one that loses its graph later begins anew."""
        seen = self._seen.pop(shape, 0)
        has_room = len(self._graphs) < MOST_GRAPHS
        if seen >= (SEEN_BEFORE_CAPTURE if has_room else SEEN_BEFORE_EXCHANGE):
            return True
        _keep(self._seen, shape, seen + 1, most=MOST_COUNTED)
        return False

    def _captured(self, inputs: ModelInput, *, entropy: bool) -> _Graph | None:
        try:
            return _Graph(self._model, inputs.on(self._device), self._memory, entropy=entropy)
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            log.warning(
                "frames of %dx%d go without a graph: %s", inputs.width, inputs.height, error
            )
            return None


def _keep(kept: OrderedDict[Shape, _Kept], shape: Shape, value: _Kept, *, most: int) -> None:
    kept[shape] = value
    kept.move_to_end(shape)
    if len(kept) > most:
        kept.popitem(last=False)


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
        self._graph = torch.cuda.CUDAGraph()
        # One stream for all: each would have a workspace of its own, which is never given back.
        aside = _capturing_stream(inputs.samples.device)
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP_PASSES):
                _told(model, inputs, entropy=entropy)
            # Another thread may put a new checkpoint on the GPU meanwhile, which is no business
            # of this capture.
            with torch.cuda.graph(
                self._graph, pool=memory, stream=aside, capture_error_mode="thread_local"
            ):
                self._told = _told(model, inputs, entropy=entropy)
        torch.cuda.current_stream().wait_stream(aside)

    def replay(self, inputs: ModelInput) -> Sequence[Tensor]:
        """What is told of another batch, until the next one."""
        for name, tensor in inputs.tensors.items():
            self._inputs[name].copy_(tensor, non_blocking=True)
        self._graph.replay()
        return self._told


@lru_cache
def _capturing_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


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
    return -(-max(1, samples) // SAMPLES_STEP) * SAMPLES_STEP


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
