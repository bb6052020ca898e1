"""`sgaps recordings`: what it finds, what it mends, and that it deletes nothing."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest

from sgaps.recording import RecordedFrame, SegmentReader, find_segments
from sgaps.recording.disk import lock_recordings
from sgaps_cli import recordings, recordings_folder
from sgaps_cli.replay.library import Library
from sgaps_command import Command, command_on, run_here, run_process
from toy_segments import content, make_frame, open_writer, write_segment


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    return command_on(tmp_path, "recordings", monkeypatch)


def whole_frame(frame_id: int, *, width: int = 160, height: int = 120) -> RecordedFrame:
    _, png = cv2.imencode(".png", np.zeros((height, width), np.uint8))
    return make_frame(frame_id, keyframe_encoding="png", keyframe=png.tobytes())


def seal(root: Path, session: str, number: int, frames: Sequence[RecordedFrame]) -> Path:
    return write_segment(root, frames, number, session_id=session)


def frames(*frame_ids: int) -> list[RecordedFrame]:
    return [whole_frame(i) if i % 5 == 0 else make_frame(i) for i in frame_ids]


def damage(path: Path, row: int) -> None:
    with h5py.File(path, "r+") as file:
        file[f"/doom/{path.parent.name}/frames/index"][row, "pixels_offset"] = 10**6


def recorded_ids(root: Path) -> list[int]:
    ids = []
    for info in find_segments(root):
        with SegmentReader(info.path) as reader:
            ids += reader.frame_ids.tolist()
    return sorted(ids)


def files(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*.h5*"))


def listed(command: Command, status: int = 0) -> dict[str, dict[str, Any]]:
    rows = json.loads(command("list", "--json", status=status))
    return {row["session"]: row for row in rows}


def test_sessions_are_listed_with_what_they_have(command: Command, tmp_path: Path) -> None:
    paths = [seal(tmp_path, "a", n, frames(*range(n * 10, n * 10 + 10))) for n in (0, 1)]
    living = open_writer(tmp_path, session_id="b")
    dead = open_writer(tmp_path, session_id="c")
    dead.abandon()
    (tmp_path / "doom" / "c" / "000001.h5.bad").touch()
    rows = listed(command)
    assert {name: row["state"] for name, row in rows.items()} == {
        "a": "sealed",
        "b": "1 being written",
        "c": "1 left by a killed writer, 1 set aside",
    }
    assert (rows["a"]["key"], rows["a"]["segments"]) == ("doom", 2)
    assert (rows["a"]["frames"], rows["a"]["keyframes"]) == (20, 4)
    assert rows["a"]["size_bytes"] == sum(path.stat().st_size for path in paths)
    assert 0 <= rows["a"]["age_secs"] < 60
    assert "left by a killed writer" in command("list")
    paths[0].write_bytes(b"nonsense")
    assert "1 damaged" in command("list", status=1)
    (tmp_path / "doom" / "a" / "000002.h5.bad").touch()
    assert "1 damaged, 1 set aside" in command("list", status=1)
    living.abandon()


def meanwhile(monkeypatch: pytest.MonkeyPatch, name: str, happens: Callable[[], object]) -> None:
    """Have something happen after each look at a folder, before what comes of it is looked at."""
    users = [module for module in (recordings, recordings_folder) if hasattr(module, name)]
    look: Callable[[Path], Any] = getattr(users[0], name)

    def looked(folder: Path) -> Any:
        found = look(folder)
        happens()
        return found

    for module in users:
        monkeypatch.setattr(module, name, looked)


@pytest.mark.parametrize("name", ["k[b]x", "[red]"])
def test_a_name_that_looks_like_markup_is_listed_as_it_is(
    name: str, command: Command, tmp_path: Path
) -> None:
    seal(tmp_path, "s", 0, frames(0)).parent.rename(tmp_path / "doom" / name)
    assert name in command("list")


@pytest.mark.parametrize("what", ["list", "verify", "repair"])
def test_a_name_that_is_no_text_is_printed_all_the_same(what: str, tmp_path: Path) -> None:
    path = seal(tmp_path, "s", 0, frames(0))
    path.parent.rename(path.parent.with_name(os.fsdecode(b"s\xff")))
    done = run_process(
        *("recordings", what, "--root", tmp_path),
        env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"},
    )
    assert "Traceback" not in done.stderr
    assert r"s\udcff" in done.stdout


def test_a_part_that_is_sealed_meanwhile_is_no_trouble(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers = [open_writer(tmp_path, number, session_id="a") for number in range(4)]
    for number, writer in enumerate(writers):
        writer.append(frames(number))
    with monkeypatch.context() as patched:
        meanwhile(patched, "part_paths", lambda: writers.pop().seal())
        assert listed(command)["a"]["state"] == "3 being written"
        assert "1 segments, 1 frames, 0 problems" in command("verify")
    meanwhile(monkeypatch, "sealed_segments", lambda: writers.pop().seal())
    assert listed(command)["a"]["state"] == "1 being written"
    writers.pop().abandon()


def test_a_part_whose_writer_lets_go_of_it_as_one_looks_is_not_a_killed_ones(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_writer(tmp_path, session_id="a")
    writer.append(frames(1))

    def is_locked_no_more(part: Path) -> bool:
        if part.exists():
            writer.seal()
        return False

    monkeypatch.setattr(recordings, "is_locked", is_locked_no_more)
    assert listed(command)["a"]["state"] == "sealed"
    assert "1 segments, 1 frames, 0 problems" in command("verify")


def test_what_is_deleted_meanwhile_is_passed_over(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for session in "ab":
        seal(tmp_path, session, 0, frames(*range(10)))
    doomed = tmp_path / "doom" / "a" / "000001.h5"

    def seal_doomed() -> None:
        seal(tmp_path, "a", 1, frames(10))

    with monkeypatch.context() as patched:
        meanwhile(patched, "session_folders", seal_doomed)
        meanwhile(patched, "sealed_paths", lambda: doomed.unlink(missing_ok=True))
        assert (listed(command)["a"]["segments"], listed(command)["a"]["state"]) == (1, "sealed")
        assert "2 segments, 20 frames, 0 problems" in command("verify")
        seal_doomed()
        assert [one.damaged for one in Library(tmp_path).scan()] == [0, 0]
    with monkeypatch.context() as patched:
        meanwhile(patched, "session_folders", seal_doomed)
        meanwhile(patched, "sealed_segments", lambda: doomed.unlink(missing_ok=True))
        assert listed(command)["a"]["state"] == "sealed"
    with monkeypatch.context() as patched:
        meanwhile(patched, "session_folders", lambda: shutil.rmtree(doomed.parent))
        assert listed(command).keys() == {"b"}


def test_sound_recordings_are_verified(command: Command, tmp_path: Path) -> None:
    seal(tmp_path, "a", 0, frames(*range(10)))
    seal(tmp_path, "b", 0, frames(*range(10)))
    living = open_writer(tmp_path, 1, session_id="b")
    assert "2 segments, 20 frames, 0 problems" in command("verify")
    assert json.loads(command("verify", "--json")) == {
        "segments": 2,
        "frames": 20,
        "findings": [],
        "set_aside": [],
    }
    living.abandon()


def _nonsense(path: Path) -> None:
    path.write_bytes(b"nonsense")


def _index(path: Path) -> None:
    damage(path, 3)


def _sample(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["/doom/a/frames/pixels"][0] = 2.0


def _keyframe(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["/doom/a/frames/keyframes"][0] = 0


def _undecodable(path: Path) -> None:
    frame = make_frame(99, keyframe_encoding="png", keyframe=b"\x89PNG no picture")
    seal(path.parents[2], "a", 7, [frame])


def _twice(path: Path) -> None:
    seal(path.parents[2], "a", 7, frames(8, 9, 10))


def _larger(path: Path) -> None:
    seal(path.parents[2], "a", 7, [whole_frame(99, width=161)])


def _part(path: Path) -> None:
    writer = open_writer(path.parents[2], 7, session_id="a")
    writer.append(frames(10, 11))
    writer.sync()
    writer.abandon()


@pytest.mark.parametrize(
    ("harm", "told", "left"),
    [
        (_nonsense, "000000.h5: .*no valid segment", 0),
        (_index, "000000.h5: .*index row 3 points nowhere", 9),
        (_sample, "000000.h5: frame 1: a sample is outside", 9),
        (_keyframe, "000000.h5: frame 0: its keyframe is not what was written", 9),
        (_undecodable, "000007.h5: frame 99: its keyframe cannot be decoded", 11),
        (_twice, "000007.h5: frame 8 is recorded twice", 11),
        (_larger, "000007.h5: frame 99: its keyframe has 161x120 pixels", 11),
        (_part, "000007.h5.part: left by a killed writer", 12),
    ],
)
def test_what_is_not_well_is_found_and_mended(
    command: Command, tmp_path: Path, harm: Callable[[Path], None], told: str, left: int
) -> None:
    path = seal(tmp_path, "a", 0, frames(*range(10)))
    seal(tmp_path, "other", 0, frames(777))
    harm(path)
    before = {file.read_bytes() for file in tmp_path.rglob("*.h5")}
    assert re.search(told, command("verify", status=1))
    command("repair")
    assert f"{left + 1} frames, 0 problems" in command("verify")
    assert "nothing to repair" in command("repair")
    ids = recorded_ids(tmp_path)
    assert len(ids) == len(set(ids)) == left + 1
    assert before <= {file.read_bytes() for file in tmp_path.rglob("*.h5*")}


@pytest.mark.parametrize("is_older", [False, True])
def test_samples_are_kept_where_the_keyframe_beside_them_is_damaged(
    command: Command, tmp_path: Path, *, is_older: bool
) -> None:
    path = seal(tmp_path, "a", 0, frames(*range(10)))
    with h5py.File(path, "r+") as file:
        group = file["/doom/a/frames"]
        group["keyframes"][:8] = 0  # of frame 0, which has no samples
        group["keyframes"][len(group["keyframes"]) // 2 :] = 0  # of frame 5, which has five
        if is_older:
            del group["checksums"]
    told = command("repair")
    assert "9 frames are in 000001.h5, 1 of them without their keyframes" in told
    with SegmentReader(path.with_name("000001.h5")) as reader:
        (kept,) = (frame for frame in reader if frame.frame_id == 5)
    assert content(kept) == content(make_frame(5))
    told = command("verify")
    assert "doom/a/000000.h5.bad: set aside" in told
    assert "9 frames, 0 problems" in told
    assert json.loads(command("verify", "--json"))["set_aside"] == ["doom/a/000000.h5.bad"]


def test_a_repair_that_was_killed_is_finished(command: Command, tmp_path: Path) -> None:
    path = seal(tmp_path, "a", 0, frames(*range(10)))
    damage(path, 3)
    # The copy is there, the damaged segment not aside yet.
    seal(tmp_path, "a", 1, frames(0, 1, 2, *range(4, 10)))
    assert "nothing else was in it" in command("repair")
    assert files(tmp_path) == ["000000.h5.bad", "000001.h5"]
    assert "9 frames, 0 problems" in command("verify")


def test_what_a_recorder_writes_is_left_alone(command: Command, tmp_path: Path) -> None:
    writer = open_writer(tmp_path, session_id="a")
    writer.append(frames(1))
    writer.sync()
    assert "nothing to repair" in command("repair")
    lock = lock_recordings(tmp_path)
    assert "another recorder writes" in command("repair", status=1)
    os.close(lock)
    writer.append(frames(2))
    writer.seal()
    assert recorded_ids(tmp_path) == [1, 2]


def test_a_segment_of_another_session_is_left_to_people(command: Command, tmp_path: Path) -> None:
    seal(tmp_path, "a", 0, frames(1))
    (tmp_path / "doom" / "a").rename(tmp_path / "doom" / "b")
    assert "it belongs to doom/a" in command("verify", status=1)
    told = json.loads(command("repair", "--json", status=1))
    assert [(done["path"], done["well"]) for done in told] == [("doom/b/000000.h5", False)]
    assert files(tmp_path) == ["000000.h5"]


def test_what_lies_beside_another_sessions_segment_is_sound(
    command: Command, tmp_path: Path
) -> None:
    """Each repair took the same frame ids for recorded twice, and rewrote the healthy one."""
    seal(tmp_path, "a", 0, frames(1, 2))
    seal(tmp_path, "b", 1, frames(1, 2))
    (tmp_path / "doom" / "a" / "000000.h5").rename(tmp_path / "doom" / "b" / "000000.h5")
    (tmp_path / "doom" / "a").rmdir()
    for _ in range(2):
        told = json.loads(command("repair", "--json", status=1))
        assert [done["path"] for done in told if not done["well"]] == ["doom/b/000000.h5"]
        assert files(tmp_path) == ["000000.h5", "000001.h5"]


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Another user's folder, for whoever runs the tests: root may read what has no mode for it."""
    iterdir = Path.iterdir

    def close(folder: Path) -> None:
        def refused(path: Path) -> Iterator[Path]:
            if path == folder:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return iterdir(path)

        monkeypatch.setattr(Path, "iterdir", refused)

    return close


def test_a_session_that_may_not_be_read_is_told_beside_the_others(
    command: Command, closed: Callable[[Path], None], tmp_path: Path
) -> None:
    for session in ("a", "b"):
        seal(tmp_path, session, 0, frames(*range(10)))
    closed(tmp_path / "doom" / "b")
    rows = listed(command, status=1)
    assert {name: row["state"] for name, row in rows.items()} == {"a": "sealed", "b": "unreadable"}
    told = command("verify", status=1)
    assert "doom/b cannot be listed: Permission denied" in told
    assert "1 segments, 10 frames, 1 problems" in told
    assert "doom/b: left as it is: " in command("repair", status=1)
    assert {one.session: one.frame_count for one in Library(tmp_path).scan()} == {"a": 10, "b": 0}


def test_a_key_that_may_not_be_read_is_told_beside_the_others(
    command: Command, closed: Callable[[Path], None], tmp_path: Path
) -> None:
    seal(tmp_path, "a", 0, frames(*range(10)))
    write_segment(tmp_path, frames(1), checkpoint_key="pong", session_id="b")
    closed(tmp_path / "pong")
    rows = [(r["key"], r["session"], r["state"]) for r in listed(command, status=1).values()]
    assert rows == [("doom", "a", "sealed"), ("pong", "", "unreadable")]
    told = command("verify", status=1)
    assert "pong: " in told
    assert "pong cannot be listed: Permission denied" in told
    assert "1 segments, 10 frames, 1 problems" in told
    assert "pong: left as it is: " in command("repair", status=1)
    assert sum(one.frame_count for one in Library(tmp_path).scan()) == 10


def test_a_folder_that_can_be_no_key_is_passed_over(
    command: Command, closed: Callable[[Path], None], tmp_path: Path
) -> None:
    """As every disk has one, which only root may read."""
    seal(tmp_path, "a", 0, frames(*range(10)))
    (tmp_path / "lost+found").mkdir()
    closed(tmp_path / "lost+found")
    assert listed(command).keys() == {"a"}
    assert "1 segments, 10 frames, 0 problems" in command("verify")
    assert "nothing to repair" in command("repair")


@pytest.mark.parametrize("doing", ["list", "verify", "repair"])
def test_a_folder_that_may_not_be_read_is_told_in_a_line(
    doing: str, command: Command, closed: Callable[[Path], None], tmp_path: Path
) -> None:
    seal(tmp_path, "a", 0, frames(1))
    closed(tmp_path)
    *_, line = command(doing, status=1).splitlines()
    assert line.startswith(f"sgaps: {tmp_path} cannot be ")
    assert line.endswith(": Permission denied")


def test_without_a_folder_it_says_so(command: Command, tmp_path: Path) -> None:
    tmp_path.rmdir()
    assert "there is no folder" in command("verify", status=1)


def test_started_elsewhere_it_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for what in ("recordings", "checkpoints"):
        monkeypatch.setenv(f"SGAPS__DATA__{what.upper()}_DIR", f"data/{what}")
        done = run_here(what, "list")
        assert done.returncode == 1
        assert f" {tmp_path}/data/{what}: cd to where sgaps up runs, " in done.stderr
        assert "--root" in done.stderr


@pytest.mark.parametrize("what", ["list", "verify", "repair"])
@pytest.mark.parametrize("where", ["..", "doom", "doom/a"])
def test_a_folder_of_something_else_is_not_well(tmp_path: Path, what: str, where: str) -> None:
    """A check of a backup with a wrong path would always pass."""
    root = tmp_path / "data" / "recordings"
    seal(root, "a", 0, frames(1))
    done = run_here("recordings", what, "--root", root / where)
    assert done.returncode == 1
    assert "no recordings in" in done.stderr
    assert run_here("recordings", what, "--root", root).returncode == 0


@pytest.mark.parametrize("what", ["list", "verify", "repair"])
def test_an_empty_folder_is_well(tmp_path: Path, what: str) -> None:
    assert run_here("recordings", what, "--root", tmp_path).returncode == 0
