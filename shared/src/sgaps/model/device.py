"""Where the model runs, and what a process has to set first."""

from __future__ import annotations

from typing import Literal

import cv2
import torch

from sgaps.errors import SettingsError


def pick_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """`auto` is a GPU where there is one. Raises SettingsError where one is asked for in vain."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device=cuda, but torch sees no GPU here; auto takes one if there is")
    return torch.device(name)


def network_precision(device: torch.device) -> torch.autocast:
    """Inside it the network computes as it does on this device: on a GPU in bfloat16.

    The interpolation, the scores of attention and the frame stay in float32.
    """
    # Without its cache: a graph must not hold what the cache lets go of.
    return torch.autocast(
        device.type, torch.bfloat16, enabled=device.type == "cuda", cache_enabled=False
    )


def prepare_cpu(threads: int) -> None:
    """Call it in the thread that will run the model, before the first forward pass.

    Sharp attention leaves weights too small for normal floats, and arithmetic on those is slow:
    the backward pass of attention took 13 times as long with them as with zeros in their place.
    """
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)  # its pictures are small: with two it takes more time of both
    torch.set_flush_denormal(True)
