"""GPUs are leased by locks, here without any GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reconstructor.gpus import NoFreeGpu, lease_gpu
from sgaps.errors import SettingsError

HOLD = """
import sys, pathlib
from reconstructor.gpus import lease_gpu
print(lease_gpu(pathlib.Path(sys.argv[1]), 2), flush=True)
sys.stdin.read()
"""


def test_a_gpu_has_one_owner_and_is_free_when_it_is_killed(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "0\n"
    assert lease_gpu(tmp_path, 2) == 1
    with pytest.raises(NoFreeGpu):
        lease_gpu(tmp_path, 2)
    other.kill()
    other.wait()
    assert lease_gpu(tmp_path, 2) == 0


def test_a_folder_that_is_not_there_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"reconstructor\.gpu_leases_dir .*nowhere/gpu-0"):
        lease_gpu(tmp_path / "nowhere", 2)
