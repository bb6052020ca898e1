"""`python -m trainer.train`: what it learns from, on several ranks, and interrupted."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lost_output import Full
from sgaps.checkpoints import DEFAULT_KEY
from sgaps.errors import CheckpointError, SgapsError
from sgaps.model import CheckpointStore
from sgaps.recording import find_segments
from trainer import run_memory, train
from trainer.contest import Contest
from trainer.ranks import ALONE
from trainer.reporter import Reporter
from trainer.run import UNFINISHED_NAME
from trainer.run_lock import alone_with
from training.toy_recordings import KEY, record, toy_settings
from waiting import wait_until


def command(tmp_path: Path, *overrides: str) -> list[str]:
    """`-m trainer.train` on the toy recordings."""
    return [
        *("-m", "trainer.train", "--key", KEY),
        *("training=live", "training.min_sessions=2", "training.learning_rate=3e-3"),
        *("sampling.default_sample_count=60", "training.cpu_threads=1"),
        *("model.embed_dim=32", "model.num_heads=2", "model.ffn_dim=48"),
        *("model.refine_channels=16", "model.coarse_channels=[16]"),
        f"data.recordings_dir={tmp_path / 'recordings'}",
        f"data.checkpoints_dir={tmp_path / 'checkpoints'}",
        f"data.shipped_dir={tmp_path / 'shipped'}",
        f"data.runs_dir={tmp_path / 'runs'}",
        "logging.wandb=disabled",
        *overrides,
    ]


def run_here(tmp_path: Path, *more: str) -> int:
    """Exit status of the command in this process, whose handlers of signals it would replace."""
    return train.main(command(tmp_path, *more)[2:])


def test_a_key_has_one_run_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=8)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    arguments = command(tmp_path, "training.max_epochs=1")[2:]
    with alone_with(KEY, tmp_path / "checkpoints"):
        assert train.main(arguments) == 1
        assert "another run trains 'toy'" in capsys.readouterr().err
        with alone_with("other", tmp_path / "checkpoints"):
            pass
    assert train.main(arguments) == 0


def test_a_key_that_is_none_makes_no_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=2)
    settings = toy_settings(
        tmp_path,
        f"data.train=[{tmp_path / 'recordings'}]",
        f"data.runs_dir={tmp_path / 'runs'}",
        "logging.wandb=disabled",
    )
    with pytest.raises(CheckpointError, match=r"'\.\./evil' is no checkpoint key"):
        train._run("../evil", settings, threading.Event(), ranks=ALONE, resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["recordings"]


@pytest.mark.parametrize("setting", ["data.train", "data.val"])
@pytest.mark.parametrize("folder", ["recordings/toy", "recordings/toy/a", "nothing"])
def test_a_named_folder_without_recordings_is_refused(
    tmp_path: Path, setting: str, folder: str
) -> None:
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=2)
    (tmp_path / "nothing").mkdir()
    settings = toy_settings(tmp_path, f"{setting}=[{tmp_path / folder}]")
    with pytest.raises(SgapsError, match=rf"{setting}: no sealed .*<key>/<session>/\*\.h5"):
        train._run(KEY, settings, threading.Event(), ranks=ALONE, resume=False)


@pytest.mark.parametrize("setting", ["data.train", "data.val"])
def test_what_is_named_twice_counts_once(tmp_path: Path, setting: str) -> None:
    folder = tmp_path / "recordings"
    record(folder, "a", frames=2)
    (tmp_path / "link").symlink_to(folder)
    named = [folder, folder / ".." / "recordings", tmp_path / "link"]
    assert len(train._segments(setting, named)) == 1
    assert train._segments(setting, [folder, folder / KEY / "a" / "000000.h5"]) == find_segments(
        folder
    )
    shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(SgapsError, match=rf"session a is in .*: name one of them in {setting}"):
        train._segments(setting, [folder, tmp_path / "copy"])


TRAIN_BY_TWO_CLOCKS = """
import os, pathlib, sys, time, types, zlib
from trainer import fit, train

rank = int(os.environ["RANK"])
fit.time = types.SimpleNamespace(monotonic=lambda: time.monotonic() * (1 + 29 * rank))

class Stepper(fit.Stepper):
    def finish(self):
        weights = b"".join(t.numpy().tobytes() for t in self.tensors().values())
        pathlib.Path(sys.argv[1], f"weights-{rank}").write_text(str(zlib.crc32(weights)))
        super().finish()

fit.Stepper = Stepper
sys.exit(train.main(sys.argv[2:]))
"""


def test_two_ranks_train_one_checkpoint(tmp_path: Path) -> None:
    """And have the same weights, though the clock of one is thirty times as fast."""
    script = tmp_path / "train_by_two_clocks.py"
    script.write_text(TRAIN_BY_TWO_CLOCKS)
    for name in ("a", "b", "c"):
        record(tmp_path / "recordings", name, frames=24)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"]
    options = command(tmp_path, "training.max_epochs=12", "training.max_secs=100")[2:]
    done = subprocess.run(
        [*launcher, str(script), str(tmp_path), *options],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    _, manifest, _ = CheckpointStore(tmp_path / "checkpoints").load_current(KEY)
    assert manifest.metrics.val_psnr_db > manifest.metrics.champion_psnr_db + 0.3
    assert done.stdout.count("published") == 1
    first, second = ((tmp_path / f"weights-{rank}").read_text() for rank in range(2))
    assert first == second


def test_loader_processes_end_with_a_run_that_was_killed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=24)
    mark = {"SGAPS_TEST_RUN": str(tmp_path)}
    begun = subprocess.Popen(
        [sys.executable, *command(tmp_path, "training.max_epochs=2000", "training.workers=2")],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"SGAPS__TRAINING__SAVE_EVERY_SECS": "0.2"} | mark,
    )
    saved = tmp_path / "checkpoints" / KEY / UNFINISHED_NAME
    wait_until(saved.exists)
    assert len(processes_with(mark)) > 3  # the run, the server of copies and two of them
    begun.kill()
    begun.wait()
    wait_until(lambda: not processes_with(mark))


def processes_with(mark: dict[str, str]) -> list[str]:
    """Ids of the processes that have inherited a variable."""
    ((name, value),) = mark.items()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"{name}={value}".encode() in environment.read_bytes().split(b"\0"):
                found.append(environment.parent.name)
    return found


@pytest.mark.usefixtures("ever_better")
def test_without_a_key_the_general_checkpoint_learns_from_all_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    arguments = [part for part in command(tmp_path)[2:] if part not in {"--key", KEY}]
    assert train.main(arguments) == 1
    assert "make some: play, or sgaps capture GAME\n" in capsys.readouterr().err
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=4)
    assert train.main([*arguments, "training.max_epochs=1"]) == 0
    (manifest,) = (tmp_path / "checkpoints" / DEFAULT_KEY).glob("v*/manifest.json")
    assert json.loads(manifest.read_text())["checkpoint_key"] == DEFAULT_KEY


def test_an_interrupted_command_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=24)
    begun = subprocess.Popen(
        [sys.executable, *command(tmp_path, "training.max_epochs=2000", "training.workers=1")],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"SGAPS__TRAINING__SAVE_EVERY_SECS": "0.2"},
    )
    saved = tmp_path / "checkpoints" / KEY / UNFINISHED_NAME
    try:
        wait_until(saved.exists)
        begun.send_signal(signal.SIGINT)
        _, told = begun.communicate(timeout=60)
    finally:
        begun.kill()
    assert begun.returncode == 130
    assert "once more ends it at once" in told
    assert "--resume" in told
    assert "Traceback" not in told
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    kept = saved.read_bytes()
    for other, told in (
        (["training.max_epochs=2000"], "--resume, or delete"),
        (["training.max_epochs=3", "--resume"], "other settings (training.max_epochs)"),
    ):
        assert run_here(tmp_path, *other) == 1
        assert told in capsys.readouterr().err
        assert saved.read_bytes() == kept
    assert run_here(tmp_path, "training.max_epochs=2000", "training.max_secs=2", "--resume") == 0
    assert not saved.exists()
    manifest = json.loads(
        next((tmp_path / "checkpoints" / KEY).glob("v*/manifest.json")).read_text()
    )
    assert manifest["parent"] is None


def test_a_run_is_saved_where_its_whole_group_of_processes_is_told_to_end(tmp_path: Path) -> None:
    """`systemctl stop`, `scancel`."""
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=96)
    of_more_than_a_pipe_holds = ("training.batch_size=48", "training.workers=2")
    begun = subprocess.Popen(
        [
            sys.executable,
            *command(tmp_path, "training.max_epochs=2000", *of_more_than_a_pipe_holds),
            "training.save_every_secs=0.2",
        ],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        wait_until((tmp_path / "checkpoints" / KEY / UNFINISHED_NAME).exists)
        os.killpg(begun.pid, signal.SIGTERM)
        _, told = begun.communicate(timeout=60)
    finally:
        begun.kill()
    assert begun.returncode == 130
    assert "--resume" in told
    assert "Traceback" not in told


@pytest.mark.usefixtures("ever_better")
def test_a_run_whose_terminal_cannot_be_written_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=4)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "stderr", Full())
    assert run_here(tmp_path, "training.max_epochs=1") == 0
    assert "published v0001" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_run_that_is_interrupted_together_with_who_reads_it_is_saved(
    number: signal.Signals, tmp_path: Path
) -> None:
    """`sgaps train 2>&1 | tee log` and Ctrl-C, or the end of their terminal."""
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=24)
    looking = ("training.max_epochs=2000", "logging.look_every_secs=0.1")

    def has_learned() -> bool:
        return any('"loss"' in log.read_text() for log in tmp_path.glob("runs/*/*/metrics.jsonl"))

    begun = subprocess.Popen(
        ["env", "--default-signal=HUP", sys.executable, *command(tmp_path, *looking)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert begun.stdout is not None
    try:
        wait_until(has_learned)
        begun.stdout.close()
        begun.send_signal(number)
        assert begun.wait(timeout=60) == 130
    finally:
        begun.kill()
    assert (tmp_path / "checkpoints" / KEY / UNFINISHED_NAME).exists()


@pytest.mark.parametrize("when", ["judged", "published"])
@pytest.mark.parametrize("disk", ["well", "full"])
@pytest.mark.usefixtures("ever_better")
def test_what_an_interrupted_command_says_is_true(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    when: str,
    disk: str,
) -> None:
    for name in ("a", "b"):
        record(tmp_path / "recordings", name, frames=4)
    handlers: list[Callable[[int, object], None]] = []
    monkeypatch.setattr(signal, "signal", lambda _, handler: handlers.append(handler))

    def interrupting(what: Callable[..., Any]) -> Callable[..., Any]:
        def interrupted(*arguments: Any, **options: Any) -> Any:
            handlers[0](signal.SIGINT, None)
            return what(*arguments, **options)

        return interrupted

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        if when == "judged":
            patched.setattr(Contest, "judged", interrupting(Contest.judged))
        else:
            patched.setattr(Reporter, "end", interrupting(Reporter.end))
        if disk == "full":
            patched.setattr(run_memory, "save_run", full)
        status = run_here(tmp_path, "training.max_epochs=2")
    told = capsys.readouterr()
    if when == "published":
        assert (status, "published v0001" in told.out) == (0, True)
        return
    assert status == 130
    assert ("--resume" in told.err) == (disk == "well")
    assert ("nothing is saved" in told.err) == (disk == "full")
    again = run_here(tmp_path, "training.max_epochs=2", "--resume")
    assert again == (0 if disk == "well" else 1)
    if disk == "well":  # and nothing is trained twice
        assert "published v0001" in capsys.readouterr().out
