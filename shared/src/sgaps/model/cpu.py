"""What a process that runs the model on a CPU has to set first."""

from __future__ import annotations

import torch


def prepare_cpu(threads: int) -> None:
    """Call it in the thread that will run the model, before the first forward pass.

    Sharp attention leaves weights too small for normal floats, and arithmetic on those is slow:
    the backward pass of attention took 13 times as long with them as with zeros in their place.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
