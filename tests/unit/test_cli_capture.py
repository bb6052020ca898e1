"""`sgaps capture` and `sgaps import`: what they write can be read back, what is wrong is told."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from lockless import refuse_locks
from sgaps import ending
from sgaps.errors import DiskFull, RecordingError, SourceError
from sgaps.recording import (
    RecordedFrame,
    SegmentReader,
    SegmentWriter,
    find_segments,
    recover_parts,
)
from sgaps.settings import load_settings
from sgaps_cli import capture
from sgaps_client.pictures import decoded_png
from sgaps_client.sources import GameFrame
from sgaps_command import run_here, run_process
from videos import dented_video, write_video

SHADES = tuple(range(0, 240, 20))


def recorded(out: Path, key: str) -> dict[str, NDArray[np.uint8]]:
    """The whole frames of each session, uint8 (F, H, W)."""
    sessions = {}
    for segment in find_segments(out, key):
        with SegmentReader(segment.path) as reader:
            frames = list(reader)
        assert [frame.frame_id for frame in frames] == list(range(len(frames)))
        pictures = np.stack([decoded_png(frame.keyframe) for frame in frames])
        assert {(frame.height, frame.width) for frame in frames} == {pictures.shape[1:]}
        sessions[segment.session_id] = pictures
    return sessions


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "ramp.avi", SHADES)


def test_a_second_capture_is_another_play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one seed it would be held out of what it was trained on; no --out: as configured."""
    monkeypatch.setenv("SGAPS__DATA__RECORDINGS_DIR", str(tmp_path / "configured"))
    for _ in range(2):
        done = run_here("capture", "atari/pong", "--frames", 4)
        assert done.returncode == 0, done.stderr
    sessions = recorded(tmp_path / "configured", "atari-pong")
    assert sorted(name.split("-")[1] for name in sessions) == ["0", "1", "2", "3"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, shade in enumerate((30, 60, 90)):
        cv2.imwrite(str(pictures / f"{number}.png"), np.full((6, 8), shade, np.uint8))
    return pictures


def test_doom_is_captured_by_the_command(tmp_path: Path) -> None:
    done = run_here(
        "capture", "doom/my_way_home", "--frames", 5, "--sessions", 2, "--out", tmp_path
    )
    assert done.returncode == 0, done.stderr
    sessions = recorded(tmp_path, "doom-my_way_home")
    assert [pictures.shape for pictures in sessions.values()] == [(5, 240, 320)] * 2
    first, second = sessions.values()
    assert (first != second).any()  # each session has a seed of its own
    (one, *_) = find_segments(tmp_path)
    with SegmentReader(one.path) as reader:
        state = reader.read(0).state
    assert state.shape == (12,)
    assert 0 < state[8] <= 100  # health


def test_atari_is_captured_with_the_frames_of_its_seed(tmp_path: Path) -> None:
    pong = ("capture", "atari/pong", "--frames", 4, "--sessions", 1, "--seed", 3)
    for out in ("a", "b"):
        done = run_here(*pong, "--out", tmp_path / out, "--key", "mine")
        assert done.returncode == 0, done.stderr
        assert "4 whole frames of mine" in done.stderr
    (once,), (again,) = (recorded(tmp_path / out, "mine").values() for out in ("a", "b"))
    assert once.shape == (4, 210, 160)
    np.testing.assert_array_equal(once, again)


def test_a_video_is_imported_by_the_command(tmp_path: Path, video: Path) -> None:
    done = run_here("import", video, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    (pictures,) = recorded(tmp_path / "out", "ramp").values()
    assert pictures.shape == (len(SHADES), 48, 64)
    np.testing.assert_allclose(pictures.mean(axis=(1, 2)), SHADES, atol=3)


def test_a_file_of_the_home_folder_is_imported(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(video.parent))
    done = run_here("import", f"~/{video.name}", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert len(recorded(tmp_path / "out", "ramp")) == 1


def test_a_file_has_one_key_whatever_records_it(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(video.parent)
    for command in ("capture", "import"):
        out = tmp_path / command
        assert run_here(command, f"./{video.name}", "--out", out).returncode == 0
        assert len(recorded(out, "ramp")) == 1


def test_images_are_imported_and_scaled(tmp_path: Path, folder: Path) -> None:
    arguments = ("import", folder, "--out", tmp_path / "out", "--key", "grays", "--width", 4)
    done = run_here(*arguments)
    assert done.returncode == 0, done.stderr
    (pictures,) = recorded(tmp_path / "out", "grays").values()
    assert pictures.shape == (3, 3, 4)
    assert pictures.mean(axis=(1, 2)).tolist() == [30, 60, 90]


@pytest.mark.parametrize(
    ("source", "key"), [("doom/my_way_home", "doom-my_way_home"), ("pictures", "pictures")]
)
@pytest.mark.usefixtures("folder")
def test_a_source_is_captured_in_another_width(
    source: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_here("capture", source, "--width", 640, "--frames", 2, "--out", "out")
    assert done.returncode == 0, done.stderr
    shapes = {pictures.shape[1:] for pictures in recorded(Path("out"), key).values()}
    assert shapes == {(480, 640)}


def test_a_folder_is_captured_once(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second session would be the same: held out of training, it would measure nothing."""
    monkeypatch.chdir(tmp_path)
    assert run_here("capture", folder.name, "--out", "out").returncode == 0
    assert len(recorded(Path("out"), folder.name)) == 1


@pytest.mark.parametrize(
    ("once", "again", "cure"),
    [
        (("import", "pictures"), ("import", "./pictures"), "another --key"),
        (("import", "ramp.avi"), ("import", "ramp.avi", "--width", "32"), "another --key"),
        (("capture", "ramp.avi", "--frames", "3"), ("import", "ramp.avi"), "another --key"),
        (
            ("capture", "atari/pong", "--frames", "3", "--sessions", "1", "--seed", "11"),
            ("capture", "atari/pong", "--frames", "4", "--sessions", "2", "--seed", "10"),
            "another --seed",
        ),
    ],
)
@pytest.mark.usefixtures("video", "folder")
def test_the_same_is_not_recorded_twice(
    once: tuple[str, ...],
    again: tuple[str, ...],
    cure: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Held out of training, it would be what was trained on."""
    monkeypatch.chdir(tmp_path)
    assert run_here(*once, "--out", "out", "--key", "k").returncode == 0
    done = run_here(*again, "--out", "out", "--key", "k")
    ((session, pictures),) = recorded(Path("out"), "k").items()
    assert done.returncode == 1
    assert cure in done.stderr
    assert session in done.stderr
    if again[0] == "import":
        shutil.rmtree(Path("out") / "k" / session)
        assert run_here(*again, "--out", "out", "--key", "k").returncode == 0
        assert len(recorded(Path("out"), "k")[session]) >= len(pictures)


@pytest.mark.parametrize(
    ("source", "asked", "frames"),
    [("atari/pong", None, 600), ("frames", None, None), ("frames", 9, 9)],
)
def test_of_a_game_some_frames_are_captured_and_of_a_file_all(
    source: str,
    asked: int | None,
    frames: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = []
    monkeypatch.setattr(capture, "record", lambda *_, frames, **__: wanted.append(frames))
    monkeypatch.chdir(tmp_path)
    Path("frames").mkdir()
    cv2.imwrite("frames/0.png", np.zeros((8, 8), np.uint8))
    capture.capture_source(source, frames=asked, sessions=1, out=None, key=None, seed=None)
    assert wanted == [frames]


def test_two_captures_at_once_share_no_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def captured(seed: int | None, *, sessions: int = 1) -> None:
        capture.capture_source(
            "atari/pong", frames=9, sessions=sessions, out=tmp_path, key="k", seed=seed
        )

    class Meanwhile(EndingSource):
        def frames(self) -> Iterator[GameFrame]:
            monkeypatch.setattr(capture, "open_source", lambda *_, **__: another)
            for _ in range(2):  # who is refused leaves the other's lock where it is
                with pytest.raises(RecordingError, match=r"capture-0-\w+ is just being recorded"):
                    captured(0)
            captured(None)  # one seed after those that the other has not even come to
            return super().frames()

    another = EndingSource(9, SourceError("nobody asks for a tenth"))
    source = Meanwhile(3, SourceError("it ended"))
    monkeypatch.setattr(capture, "open_source", lambda *_, **__: source)
    with pytest.raises(SourceError, match="it ended"):
        captured(None, sessions=2)
    found = {name.rpartition("-")[0]: len(shown) for name, shown in recorded(tmp_path, "k").items()}
    assert found == {"capture-0": 3, "capture-2": 9}
    assert len(list((tmp_path / "k").iterdir())) == 2


def test_a_folder_of_any_number_is_no_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (7, 2**31 - 1, 10**20):
        (tmp_path / "k" / f"capture-{number}-abc123").mkdir(parents=True)
    seeds: list[int] = []

    def opened(*_: object, seed: int, **__: object) -> EndingSource:
        seeds.append(seed)
        return EndingSource(1, SourceError("it ended"))

    monkeypatch.setattr(capture, "open_source", opened)
    with pytest.raises(SourceError, match="it ended"):
        capture.capture_source("atari/pong", frames=9, sessions=1, out=tmp_path, key="k", seed=None)
    assert seeds == [8]


def test_a_file_system_without_locks_is_recorded_to(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_locks(monkeypatch)
    done = run_here("import", folder, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert recorded(tmp_path / "out", "pictures").popitem()[1].shape[0] == 3


def test_two_games_may_have_one_key_and_seed(tmp_path: Path) -> None:
    """The checkpoint for all games was trained on such recordings."""
    for game in ("atari/pong", "atari/breakout"):
        options = ("--frames", 3, "--sessions", 1, "--seed", 3, "--key", "k", "--out", tmp_path)
        assert run_here("capture", game, *options).returncode == 0
    assert len(recorded(tmp_path, "k")) == 2


def test_a_file_in_a_folder_named_like_a_game_is_a_file(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "doom").mkdir()
    video.rename(tmp_path / "doom" / "ramp.avi")
    monkeypatch.chdir(tmp_path)
    done = run_here("import", "doom/ramp.avi", "--out", "out")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (("capture", "doom/nowhere"), "doom/my_way_home"),
        (("capture", "atari/nothing"), "pong"),
        (("capture", "nothing"), "give doom/my_way_home"),
        (("capture", "atari/pong", "--width", "320"), "160x210; leave the width out"),
        (("capture", "doom/my_way_home", "--width", "300"), "it draws 160x120, 200x150, 256x192"),
        (("play", "atari/pong", "--width", "320"), "160x210; leave the width out"),
        (("capture", "doom/my_way_home", "--key", "a b"), "--key"),
        (("capture", "pictures", "--sessions", "2"), "leave out --sessions"),
        (("capture", "pictures", "--seed", "2"), "leave out --seed"),
        (("play", "pictures", "--seed", "0"), "leave out --seed"),
        (("import", "видео"), "--key"),
        (("capture", "видео.avi"), "--key"),
        (("capture", "pictures/видео"), "--key"),
        (("capture", "pictures", "--out", "broken.mp4/out"), "another with --out"),
        (("import", "missing.mp4"), "give a video file or a folder"),
        (("import", "doom/my_way_home"), "give a video file or a folder"),
        (("import", "empty"), ".png"),
        (("import", "broken.mp4"), "check it with a player"),
        (("import", "pictures", "--width", "9000"), "1 to 8192"),
        (("import", "pictures", "--key", "a/b"), "--key"),
        (("import", "pictures", "--out", "broken.mp4"), "another with --out"),
    ],
)
def test_what_is_wrong_is_told_in_a_line_with_its_cure(
    arguments: tuple[str, ...],
    cure: str,
    tmp_path: Path,
    folder: Path,
    video: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("видео").mkdir()
    video.rename("видео.avi")
    shutil.copytree(folder, folder / "видео")
    Path("broken.mp4").write_bytes(b"no video at all")
    done = run_here(*arguments)
    *_, line = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert line.startswith("sgaps: ")
    assert cure in line
    assert not list(tmp_path.rglob("*.h5*"))


@pytest.mark.parametrize("seed", ["-1", "99999999999"])
def test_a_seed_no_game_takes_is_refused(seed: str) -> None:
    done = run_here("capture", "doom/my_way_home", "--seed", seed)
    assert done.returncode == 2
    assert "--seed" in done.stderr


def test_a_broken_video_costs_one_line_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    done = run_process("import", tmp_path / "broken.mp4", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr == (
        f"sgaps: {tmp_path}/broken.mp4 cannot be opened as a video; check it with a player\n"
    )


def test_what_can_be_decoded_of_a_damaged_video_is_kept_and_told(tmp_path: Path) -> None:
    video = dented_video(write_video(tmp_path / "ramp.mp4", SHADES))
    done = run_here("import", video, "--out", tmp_path / "out")
    assert done.returncode == 1
    kept, told = done.stderr.strip().splitlines()[-2:]
    (pictures,) = recorded(tmp_path / "out", "ramp").values()
    assert f"{len(pictures)} whole frames of ramp" in kept
    assert "kept of what was cut off" in kept
    assert told.startswith(f"sgaps: {video} is damaged or cut off: ")
    assert f" of {len(SHADES)} pictures could be decoded" in told


class EndingSource:
    """A game that ends with an error after so many frames."""

    name, state_dim, width, height = "ending", 0, 8, 6

    def __init__(self, frames: int, error: BaseException, *, copied: Path | None = None) -> None:
        """`copied`: where what is on disk just before the error is copied to."""
        self._frames, self._error, self._copied = frames, error, copied

    def frames(self) -> Iterator[GameFrame]:
        for number in range(self._frames):
            image = np.full((self.height, self.width), number % 256, np.uint8)
            yield GameFrame(image=image, state=np.empty(0, np.float32))
        if self._copied:
            shutil.copytree("out", self._copied)
        raise self._error

    def close(self) -> None:
        """It has nothing."""


@pytest.mark.parametrize("error", [SourceError("the engine ended"), KeyboardInterrupt()])
@pytest.mark.parametrize("frames", [1, 130, 630])
def test_what_came_before_a_capture_was_cut_off_is_kept(
    error: BaseException,
    frames: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(type(error)):
        capture.record(EndingSource(frames, error), tmp_path, key="k", session_id="s", frames=None)
    assert f"{frames} whole frames of k" in capsys.readouterr().err
    assert sum(segment.frame_count for segment in find_segments(tmp_path)) == frames
    assert not list(tmp_path.rglob("*.part"))


class ToldSource(EndingSource):
    """A game in whose middle this process gets a signal, and the same again."""

    number = signal.SIGTERM

    def frames(self) -> Iterator[GameFrame]:
        yield from islice(super().frames(), 130)
        os.kill(os.getpid(), self.number)
        os.kill(os.getpid(), self.number)
        yield from super().frames()


def _nothing(*_: object) -> None: ...


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_capture_that_is_told_to_end_keeps_what_came_before(
    number: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ending, "ONE_WISH_SECS", 600)  # however slow the machine
    source = ToldSource(200, SourceError("it went on"))
    source.number = number
    before = signal.signal(number, _nothing)  # which does not end the tests
    try:
        with pytest.raises(SystemExit) as ended:
            capture.record(source, tmp_path, key="k", session_id="s", frames=None)
        assert signal.getsignal(number) is _nothing
    finally:
        signal.signal(number, before)
    assert ended.value.code == 128 + number
    assert "130 whole frames of k" in capsys.readouterr().err
    assert recorded(tmp_path, "k")["s"].shape[0] == 130


def test_a_capture_that_is_killed_has_lost_a_batch_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = EndingSource(130, KeyboardInterrupt(), copied=tmp_path / "then")
    with pytest.raises(KeyboardInterrupt):
        capture.record(source, Path("out"), key="k", session_id="s", frames=None)
    recover_parts(tmp_path / "then")
    assert recorded(tmp_path / "then", "k")["s"].shape[0] == 100


def test_pictures_before_one_that_cannot_be_read_are_kept(tmp_path: Path, folder: Path) -> None:
    (folder / "9.png").write_bytes(b"\x89PNG spoilt")
    done = run_here("import", folder, "--out", tmp_path / "out")
    *_, line = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert line.startswith("sgaps: ")
    assert "9.png is not a readable picture; remove it" in line
    assert "3 whole frames of pictures in" in done.stderr
    assert recorded(tmp_path / "out", "pictures").popitem()[1].shape[0] == 3


def test_a_capture_leaves_a_recorder_its_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It filled the disk, on which a recorder then recorded nothing."""
    reserve_bytes = load_settings().recorder.min_free_bytes
    free_bytes = iter([2 * reserve_bytes, 2 * reserve_bytes, reserve_bytes])
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=next(free_bytes)))
    with pytest.raises(DiskFull, match="are needed; make room"):
        capture.record(
            EndingSource(999, SourceError("it went on")),
            tmp_path,
            key="k",
            session_id="s",
            frames=None,
        )
    assert "100 whole frames of k" in capsys.readouterr().err
    assert recorded(tmp_path, "k")["s"].shape[0] == 100


def full_after(batches: int, append: Callable[..., None]) -> Callable[..., None]:
    """`SegmentWriter.append` on a disk that is full after so many batches."""
    written = 0

    def appended(writer: SegmentWriter, frames: Sequence[RecordedFrame]) -> None:
        nonlocal written
        if written == batches:
            full = os.open("/dev/full", os.O_RDWR)
            os.dup2(full, writer._file.id.get_vfd_handle())
            os.close(full)
        written += 1
        append(writer, frames)

    return appended


def test_of_a_capture_whose_disk_was_full_repair_saves_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SegmentWriter, "append", full_after(2, SegmentWriter.append))
        with pytest.raises(RecordingError, match=r"sgaps recordings repair --root \S+ saves"):
            capture.record(
                EndingSource(130, SourceError("the engine ended")),
                tmp_path,
                key="k",
                session_id="s",
                frames=None,
            )
    done = run_here("recordings", "repair", "--root", tmp_path)
    assert done.returncode == 0, done.stderr
    assert recorded(tmp_path, "k")["s"].shape[0] == 100


def test_a_capture_that_is_cut_off_while_it_writes_is_left_to_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(writer: SegmentWriter) -> None:
        raise KeyboardInterrupt

    source = EndingSource(130, SourceError("the engine ended"))
    with monkeypatch.context() as patch:
        patch.setattr(SegmentWriter, "seal", interrupted)
        # Of another KeyboardInterrupt the test run would end.
        with pytest.raises(
            (RecordingError, KeyboardInterrupt), match=r"sgaps recordings repair --root \S+ saves"
        ):
            capture.record(source, tmp_path, key="k", session_id="s", frames=None)
    recover_parts(tmp_path)
    assert recorded(tmp_path, "k")["s"].shape[0] == 130
