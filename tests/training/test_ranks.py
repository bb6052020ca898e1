"""Which processes a run has, and where each of them computes."""

from __future__ import annotations

import pytest
import torch
from torch import distributed

from sgaps.errors import SgapsError
from trainer.ranks import ALONE, Ranks, joined

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_a_world_size_that_torchrun_did_not_set_makes_no_ranks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with joined(CPU) as ranks:
        assert ranks == ALONE


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """As torchrun starts it on a machine with one GPU; what it would be joined by and use."""
    used: list[object] = []
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", used.append)
    monkeypatch.setattr(distributed, "init_process_group", used.append)
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: None)
    monkeypatch.setattr(distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    return used


def test_ranks_that_are_told_to_use_the_cpu_leave_gpus_alone(second_of_two: list[object]) -> None:
    with joined(CPU) as ranks:
        assert ranks == Ranks(1, 2)
    assert second_of_two == ["gloo"]


def test_each_rank_has_a_gpu_of_its_own(
    second_of_two: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SgapsError, match="--nproc-per-node may be 1 at most"), joined(GPU):
        pass
    assert not second_of_two
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with joined(GPU):
        assert second_of_two == [1, "nccl"]
