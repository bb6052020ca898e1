"""The processes of one training run: one alone, or as many as `torchrun` started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from sgaps.errors import SgapsError


@dataclass(frozen=True)
class Ranks:
    """This process among the others of its run."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one reports, saves and publishes."""
        return self.rank == 0

    def together(self, model: nn.Module, *, trains_all: bool) -> nn.Module:
        """The model, with gradients averaged over all ranks."""
        if self.count == 1:
            return model
        return DistributedDataParallel(model, find_unused_parameters=not trains_all)

    def any_of(self, value: bool) -> bool:
        """True everywhere where it is true on one rank: all leave a loop after the same step."""
        if self.count == 1:
            return value
        votes = torch.tensor(int(value), device=_device())
        distributed.all_reduce(votes)
        return bool(votes)

    def in_step(self, elapsed_secs: float, *, stop: bool) -> tuple[float, bool]:
        """The first rank's time, and whether any is told to stop: what all go by in a step.

        By clocks of their own they would learn at different rates, and their weights drift apart.
        """
        if self.count == 1:
            return elapsed_secs, stop
        mine = [elapsed_secs if self.is_first else 0.0, float(stop)]
        sums = torch.tensor(mine, dtype=torch.float64, device=_device())
        distributed.all_reduce(sums)
        first_secs, votes = sums.tolist()
        return first_secs, votes > 0

    def least_of(self, number: int) -> int:
        """The smallest that one of the ranks has."""
        if self.count == 1:
            return number
        least = torch.tensor(number, device=_device())
        distributed.all_reduce(least, op=distributed.ReduceOp.MIN)
        return int(least)

    def agree_on(self, number: int) -> bool:
        """Whether it is the same (below 2**62) on every rank."""
        if self.count == 1:
            return True
        extremes = torch.tensor([number, -number], device=_device())
        distributed.all_reduce(extremes, op=distributed.ReduceOp.MAX)
        highest, lowest = extremes.tolist()
        return bool(highest == -lowest)


ALONE = Ranks()


def _device() -> str:
    """Where the ranks can exchange something."""
    return "cuda" if distributed.get_backend() == "nccl" else "cpu"


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The ranks that torchrun started, each on a GPU of its own where that is the device; alone
    without torchrun. Raises SgapsError where there are fewer GPUs than ranks.
    """
    if not distributed.is_torchelastic_launched():
        yield ALONE
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(_own_gpu())
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def _own_gpu() -> int:
    own, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if own >= count:
        raise SgapsError(
            f"rank {own} of this machine has no GPU of its own: --nproc-per-node may be {count} at "
            "most, or training.device=cpu"
        )
    return own
