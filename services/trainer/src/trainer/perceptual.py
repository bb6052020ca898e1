"""How different two frames look: shift-tolerant LPIPS (Ghildyal & Liu, ECCV 2022), AlexNet form.

A frame that is sharp but half a pixel off looks right, and yet its squared error is large; this
distance forgives the shift rather than the blur. The network is written here; its weights are the
authors', from the package stlpips-pytorch, whose own code needs torchvision and is not imported.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgaps.errors import SgapsError
from trainer.pictures import Picture

PACKAGE = "stlpips_pytorch"
WEIGHTS = "weights/vST0.0/alex_shift_tolerant.pth"
CONVOLUTIONS = ("slice1.0", "slice2.5", "slice3.9", "slice4.11", "slice5.13")
"""What the file calls them, one for each stage. Frames are compared after the ReLU of each."""
CHANNELS = (3, 64, 192, 384, 256, 256)
"""Before the first stage, then after each."""
KERNEL_SIDES = (11, 5, 3, 3, 3)
PADDINGS = (2, 2, 1, 1, 1)
"""With zeros."""
POOLED_STAGES = (1, 2)
"""They begin with a maximum over 3x3 pixels and a blur; stage 0 has a blur before its ReLU."""
SMALLEST_SIDE_PX = 21
"""Below, the last blur sees fewer pixels than it reflects."""
NORM_FLOOR = 1e-10
"""Keeps a place where no channel is active from being divided by zero."""
REMEMBERED_TRUTHS = 16
"""True pictures whose features are kept; those of one take 13 MB at 320x240."""

Features: TypeAlias = list[Tensor]
"""Of each stage, (B, C, h, w): a vector of length one at every place."""


class PerceptualUnavailable(SgapsError):
    """The weights are not installed. The message names the cure."""


class PerceptualLoss(nn.Module):
    """ST-LPIPS: 0 for equal frames. Frozen, but differentiable in both frames.

    Building it raises PerceptualUnavailable where the weights are not installed.
    """

    shift: Tensor
    scale: Tensor
    blur: Tensor

    def __init__(self) -> None:
        super().__init__()
        weights = _load_weights()
        self.register_buffer("shift", weights["scaling_layer.shift"])  # (1, 3, 1, 1)
        self.register_buffer("scale", weights["scaling_layer.scale"])
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("blur", torch.outer(row, row))
        self.convolutions = nn.ModuleList()
        self.heads = nn.ParameterList()  # (1, C, 1, 1) each: how much a channel counts
        shapes = zip(pairwise(CHANNELS), KERNEL_SIDES, PADDINGS, CONVOLUTIONS, strict=True)
        for stage, ((before, after), side, padding, name) in enumerate(shapes):
            convolution = nn.Conv2d(before, after, side, padding=padding)
            convolution.load_state_dict(
                {part: weights[f"net.{name}.{part}"] for part in ("weight", "bias")}
            )
            self.convolutions.append(convolution)
            self.heads.append(weights[f"lin{stage}.model.1.weight"])
        self.requires_grad_(False).eval()

    def forward(self, frame: Tensor, target: Tensor) -> Tensor:
        """(B, 1, H, W) twice, in 0..1 → the mean over the frames, a scalar."""
        return self.distances(self.features(frame), self.features(target)).mean()

    def features(self, frame: Tensor) -> Features:
        """What is compared of frame (B, 1, H, W), in 0..1. Raises ValueError if it is too small."""
        if min(frame.shape[-2:]) < SMALLEST_SIDE_PX:
            height, width = frame.shape[-2:]
            raise ValueError(
                f"ST-LPIPS needs {SMALLEST_SIDE_PX} pixels each way, the frame is {width}x{height}"
            )
        # Gray as three channels in -1..1, then as the weights expect each channel.
        maps = (frame.expand(-1, 3, -1, -1) * 2 - 1 - self.shift) / self.scale
        features = []
        for stage, convolution in enumerate(self.convolutions):
            if stage in POOLED_STAGES:
                maps = self._halved(F.max_pool2d(maps, 3, stride=1))
            maps = convolution(maps)
            if stage == 0:
                maps = self._halved(maps)
            maps = F.relu(maps)
            features.append(F.normalize(maps, dim=1, eps=NORM_FLOOR))
        return features

    def distances(self, ours: Features, theirs: Features) -> Tensor:
        """(B,), from the features of as many frames twice."""
        stages = zip(ours, theirs, self.heads, strict=True)
        each = [((a - b).square() * head).sum(1).mean((1, 2)) for a, b, head in stages]
        return torch.stack(each).sum(0)

    def _halved(self, maps: Tensor) -> Tensor:
        """Every second pixel of the blurred maps (B, C, h, w): steps alone would not bear shifts.

        Two reflected pixels at each edge, one more than the blur needs, as the weights expect.
        """
        channels = maps.shape[1]
        kernels = self.blur.expand(channels, 1, -1, -1)
        padded = F.pad(maps, (2, 2, 2, 2), mode="reflect")
        return F.conv2d(padded, kernels, stride=2, groups=channels)


class PerceptualScore:
    """ST-LPIPS of pictures (H, W). Raises PerceptualUnavailable when it is built."""

    def __init__(self) -> None:
        self._network = PerceptualLoss()
        # Many pictures are held against the same true ones.
        self._features_of_truth = lru_cache(REMEMBERED_TRUTHS)(self._features)

    @torch.inference_mode()
    def distance(self, frame: Picture, truth: Picture) -> float:
        """0 for equal pictures; lower is better."""
        ours = self._features(frame.tobytes(), frame.shape)
        theirs = self._features_of_truth(truth.tobytes(), truth.shape)
        return self._network.distances(ours, theirs).item()

    def _features(self, pixels: bytes, shape: tuple[int, ...]) -> Features:
        picture = np.frombuffer(pixels, np.uint8).reshape(1, 1, *shape)
        return self._network.features(torch.from_numpy(picture.astype(np.float32) / 255))


def _load_weights() -> dict[str, Tensor]:
    """By their names in the authors' file."""
    try:
        # The package's __init__ is empty; what needs torchvision lies in its modules.
        with resources.files(PACKAGE).joinpath(WEIGHTS).open("rb") as file:
            weights: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise PerceptualUnavailable(
            f"ST-LPIPS lacks its weights ({error}): pip install 'sgaps-trainer[perceptual]'"
        ) from error
    return weights
