"""The sources of frames, really opened: Doom, Atari, a video file."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import vizdoom
from numpy.typing import NDArray
from PIL import Image

from sgaps.atlas.atlas import Atlas
from sgaps.atlas.camera import Camera, pose_of
from sgaps.atlas.pictures import encoded
from sgaps.atlas.sweep import recall
from sgaps.errors import SourceError
from sgaps.settings import load_settings
from sgaps_client.sources import GameFrame, Source, doom, open_source
from sgaps_client.sources.base import MISSING
from sgaps_client.sources.bot import NEAR, STUCK_MOVE, WanderBot
from sgaps_client.sources.containers import is_cut_off
from sgaps_client.sources.doom import DoomSource
from sgaps_client.sources.video import carried_on
from tools import require_tool
from videos import cut_video, dented_video, write_video
from waiting import wait_until


def some_frames(source: Source, count: int) -> list[GameFrame]:
    with closing(source):
        return list(itertools.islice(source.frames(), count))


def pictures(frames: list[GameFrame]) -> NDArray[np.uint8]:
    """uint8 (F, H, W)."""
    return np.stack([frame.image for frame in frames])


def still_share(frames: list[GameFrame]) -> float:
    """Share of frames equal to the one before."""
    images = pictures(frames)
    return float(np.mean([(a == b).all() for a, b in itertools.pairwise(images)]))


@pytest.mark.parametrize(
    ("spec", "shape", "state_dim", "most_still"),
    [
        ("doom/my_way_home", (240, 320), 12, 0.1),
        ("doom/defend_the_line", (240, 320), 12, 0.1),
        ("doom/freedoom2-map01", (240, 320), 12, 0.1),
        ("atari/breakout", (210, 160), 64, 0.9),
    ],
)
def test_games_give_moving_frames_again_by_the_same_seed(
    spec: str, shape: tuple[int, int], state_dim: int, most_still: float
) -> None:
    first, again, other = (some_frames(open_source(spec, seed=seed), 12) for seed in (1, 1, 2))
    assert pictures(first).shape == (12, *shape)
    assert first[0].image.dtype == np.uint8
    assert {frame.state.shape for frame in first} == {(state_dim,)}
    assert first[0].state.dtype == np.float32
    np.testing.assert_array_equal(pictures(first), pictures(again))
    np.testing.assert_array_equal([f.state for f in first], [f.state for f in again])
    assert (pictures(first) != pictures(other)).any()
    assert still_share(first) <= most_still


def test_doom_walks_and_tells_where_it_is() -> None:
    source = open_source("doom/health_gathering_supreme", width=160, seed=4)
    assert (source.name, source.width, source.height) == (
        "doom/health_gathering_supreme",
        160,
        120,
    )
    frames = some_frames(source, 60)
    positions = np.array([frame.state[:2] for frame in frames])
    assert np.hypot(*np.diff(positions, axis=0).T).sum() > 500  # map units in six seconds
    angles_deg = np.array([frame.state[3] for frame in frames])
    assert ((angles_deg >= 0) & (angles_deg <= 360)).all()
    assert 0 < frames[0].state[8] <= 100  # health
    assert frames[0].state[10] == MISSING  # no weapon in this scenario
    assert frames[0].image.shape == (120, 160)


def test_doom_tells_the_pose_of_the_eye_as_an_atlas_is_told_to_read_it() -> None:
    """From nothing but other frames of the walk each frame is shown better than by any of them."""
    settings = load_settings(environment={})
    layout = settings.atlas.layout_of("doom-my_way_home")
    assert layout is not None
    frames = some_frames(open_source("doom/my_way_home", seed=3), 80)
    poses = [pose_of(frame.state, layout, sentinel=MISSING) for frame in frames]
    known = [
        (f.image, p) for i, (f, p) in enumerate(zip(frames, poses, strict=True)) if p and i % 8
    ]
    atlas = Atlas.of(
        [encoded(image, settings.atlas.jpeg_quality) for image, _ in known],
        [pose for _, pose in known],
        width=320,
        height=240,
        layout=layout,
        camera=Camera(focal_width=0.5, focal_height=0.8, horizon=0.5),  # 90 degrees, high pixels
    )
    gains_db = []
    for frame, pose in list(zip(frames, poses, strict=True))[8::8]:
        assert pose is not None
        assert pose.position[2] == pytest.approx(frame.state[2] + 41, abs=9)  # bobs with each step
        truth = frame.image.astype(np.float32)
        recalled = recall(atlas, pose, np.asarray(cv2.blur(truth, (9, 9)), np.float32))
        assert recalled is not None
        seen = recalled.is_seen
        errors = [np.square(atlas.picture(i)[seen] - truth[seen]).mean() for i in range(len(atlas))]
        error = np.square(recalled.picture[seen] - truth[seen]).mean()
        gains_db.append(10 * np.log10(min(errors) / error))
    assert np.mean(gains_db) > 3


def test_doom_is_drawn_without_its_status_bar_where_one_wants_that() -> None:
    (barred,), (bare,) = (
        some_frames(open_source(f"doom/freedoom2-map01{suffix}", seed=1), 1)
        for suffix in ("", "-nohud")
    )
    bar = barred.image[-30:]
    assert barred.image.shape == bare.image.shape
    assert (bare.image[-30:] != bar).mean() > 0.5
    # What is seen of the level is not scaled: the picture is only longer.
    assert barred.state.tolist() == bare.state.tolist()


def test_doom_starts_another_episode_when_one_is_over() -> None:
    # Standing on acid kills within half a minute of game time.
    frames = some_frames(open_source("doom/health_gathering_supreme", width=160, seed=4), 450)
    health = np.array([frame.state[8] for frame in frames])
    assert np.diff(health).max() > 50  # no medikit gives so much


def test_doom_leaves_no_files_where_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    some_frames(open_source("doom/my_way_home"), 2)
    assert list(tmp_path.iterdir()) == []


def test_the_doom_engine_dies_with_a_killed_player() -> None:
    require_tool("setpriv", "util-linux")
    program = (
        "import time; from sgaps_client.sources import open_source\n"
        "source = open_source('doom/my_way_home'); next(source.frames())\n"
        "print(source._scratch.name, flush=True); time.sleep(60)"
    )
    player = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert player.stdout is not None
    scratch = player.stdout.readline().strip()
    (engine,) = engines_with(scratch).values()
    player.kill()
    player.wait()
    deadline_secs = time.monotonic() + 5
    while engines_with(scratch) and time.monotonic() < deadline_secs:
        time.sleep(0.05)
    left = engines_with(scratch)
    shutil.rmtree(scratch)
    instance_id = engine[engine.index("+viz_instance_id") + 1]
    for shared_memory in Path("/dev/shm").glob(f"ViZDoom*{instance_id}"):  # noqa: S108
        shared_memory.unlink()
    assert left == {}


def test_a_doom_engine_that_is_killed_is_told_as_the_end_of_the_source() -> None:
    """By the kernel for its memory, say; `sgaps up --play` goes on without the player."""
    source = DoomSource("my_way_home", width=160)
    with closing(source):
        frames = source.frames()
        next(frames)
        (engine_pid,) = engines_with(source._scratch.name)
        os.kill(engine_pid, signal.SIGKILL)
        with pytest.raises(SourceError, match="doom/my_way_home: the Doom engine ended: "):
            list(itertools.islice(frames, 100))


@pytest.mark.parametrize("error", [vizdoom.MessageQueueException, vizdoom.SharedMemoryException])
def test_a_doom_engine_that_cannot_be_talked_to_is_told(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error("no room")

    source = DoomSource("my_way_home", width=160)
    monkeypatch.setattr(doom, "_frame", fail)
    with closing(source), pytest.raises(SourceError, match="engine ended: no room"):
        next(source.frames())
    monkeypatch.setattr(doom, "_start", fail)
    with pytest.raises(SourceError, match="Doom does not start: no room"):
        DoomSource("my_way_home")


def test_ctrl_c_while_doom_starts_leaves_no_files(tmp_path: Path) -> None:
    """A terminal sends it to the engine as well, whose end then would be a segfault of ours."""
    program = (
        "import time; from sgaps_client.sources import open_source\n"
        "source = open_source('doom/my_way_home'); time.sleep(60)"
    )
    player = subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-c", program],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: "+viz_instance_id" in str(engines_with(str(tmp_path))))
    os.killpg(player.pid, signal.SIGINT)
    _, wrong = player.communicate(timeout=60)
    assert wrong.splitlines()[-1] == "KeyboardInterrupt"
    assert list(tmp_path.iterdir()) == []


def engines_with(scratch: str) -> dict[int, list[str]]:
    """The command lines that name this folder, by process id."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_text(errors="replace").split("\0")
            if any(scratch in part for part in command):
                found[int(path.parent.name)] = command
    return found


def test_doom_goes_on_when_the_thread_that_opened_it_ends() -> None:
    """The kernel ends a child with the thread that started it, not with the process."""
    with ThreadPoolExecutor(1) as pool:
        source = pool.submit(open_source, "doom/my_way_home").result()
    assert len(some_frames(source, 3)) == 3


def test_atari_plays_on_after_a_game_over() -> None:
    frames = some_frames(open_source("atari/breakout", seed=0), 700)
    lives = np.array([frame.state[57] for frame in frames])
    assert np.diff(lives).max() > 1
    assert all(((f.state >= 0) & (f.state <= 255)).all() for f in frames)


@pytest.mark.parametrize("game", ["combat", "joust", "maze_craze", "warlords"])
def test_atari_offers_no_game_that_would_end_the_process(game: str) -> None:
    program = (
        "from sgaps.errors import SourceError\n"
        "from sgaps_client.sources import open_source\n"
        f"try: open_source('atari/{game}')\n"
        "except SourceError as error: print(error)"
    )
    told = subprocess.check_output([sys.executable, "-c", program], text=True)
    refusal, _, offered = told.partition("; the games are ")
    assert refusal == f"there is no atari/{game}"
    assert "pong" in offered
    assert game not in offered


@pytest.mark.parametrize(
    ("spec", "cure"),
    [
        ("doom/nowhere", "doom/my_way_home"),
        ("doom/freedoom2-map99", "doom/freedoom2-map01"),
        ("atari/nothing", "pong"),
        ("no/such/thing", "a video file"),
        ("", "the source is empty; give .* a video file"),
    ],
)
def test_an_unknown_source_names_the_ones_there_are(spec: str, cure: str) -> None:
    with pytest.raises(SourceError, match=cure):
        open_source(spec)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything."""
    user = os.geteuid()
    if not user:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("name", ["private", "private/frames", "x" * 300])
def test_what_may_not_be_read_is_told(name: str) -> None:
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        root.chmod(0o755)
        (root / "private/frames").mkdir(parents=True)
        (root / "private").chmod(0)
        with as_nobody(), pytest.raises(SourceError, match=rf"{name} cannot be read \([A-Z]"):
            open_source(str(root / name))
        (root / "private").chmod(0o700)


def test_doom_refuses_a_size_it_does_not_draw() -> None:
    with pytest.raises(SourceError, match="320x240"):
        open_source("doom/my_way_home", width=123)


@pytest.mark.parametrize(
    ("spec", "package", "named"),
    [("doom/my_way_home", "vizdoom", "vizdoom"), ("atari/pong", "ale_py", "ale-py")],
)
def test_a_missing_package_is_named_as_the_index_has_it(
    spec: str, package: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(
        sys.modules, f"sgaps_client.sources.{spec.partition('/')[0]}", raising=False
    )
    with pytest.raises(SourceError, match=f"pip install {named}$"):
        open_source(spec)


@pytest.mark.parametrize(("frames_per_sec", "step"), [(10.0, 1), (30.0, 3), (5.0, 0.5)])
def test_a_video_is_read_at_ten_frames_of_media_time(
    tmp_path: Path, frames_per_sec: float, step: float
) -> None:
    shades = list(range(0, 240, 8))
    path = write_video(tmp_path / "ramp.avi", shades, frames_per_sec=frames_per_sec)
    frames = some_frames(open_source(str(path)), 1000)
    assert len(frames) == math.ceil(len(shades) / frames_per_sec * 10)
    expected = [shades[int(i * step)] for i in range(len(frames))]
    np.testing.assert_allclose([f.image.mean() for f in frames], expected, atol=3)
    assert frames[0].image.shape == (48, 64)
    assert frames[0].state.shape == (0,)


def test_a_picture_is_given_as_often_as_it_is_shown(tmp_path: Path) -> None:
    """Of a rate that varies: one picture for four seconds, then twenty for a tenth each."""
    shades = [Image.fromarray(np.full((48, 64), 10 * i, np.uint8)) for i in range(21)]
    path = tmp_path / "screen.gif"
    durations_ms = [4000] + [100] * 20
    shades[0].save(path, save_all=True, append_images=shades[1:], duration=durations_ms)
    means = [frame.image.mean() for frame in some_frames(open_source(str(path)), 1000)]
    assert len(means) == pytest.approx(60, abs=1)
    assert sum(mean < 5 for mean in means) == 40


@pytest.mark.parametrize(
    ("told_secs", "expected_secs"),
    [
        ([0, 0.5, 1.5, 1.5, 11.5], [0, 0.5, 1.5, 1.5, 11.5]),  # no rate, a still of ten seconds
        ([0, 0, 0], [0, 0.5, 1]),  # a file that tells no times
        ([1, 2, 0, 4], [1, 2, 2.5, 4]),  # or not of every picture
        ([0, 0.5, 1, 0, 0.5, 0, 0.5], [0, 0.5, 1, 1.5, 2, 2.5, 3]),  # recordings joined
        ([0, 1, -0.5, 0, 0.5, 1], [0, 1, 1.5, 2, 2.5, 3]),
        ([3, 4, 1, 2], [3, 4, 4.5, 5.5]),
        ([0, 1, 20_000, 20_001, 5], [0, 1, 1.5, 2.5, 3]),  # a clock that is set
        ([3600, 3601], [0, 1]),
    ],
)
def test_the_times_of_a_video_are_carried_on(
    told_secs: list[float], expected_secs: list[float]
) -> None:
    assert list(carried_on(told_secs, own_step_secs=0.5)) == pytest.approx(expected_secs)


def test_two_recordings_joined_in_one_file_are_given_whole(tmp_path: Path) -> None:
    """As of a camera's parts that one puts together by `cat`: their times begin anew."""
    first, second = (
        write_video(tmp_path / f"{part}.mkv", shades)
        for part, shades in enumerate((range(0, 120, 6), range(120, 180, 6)))
    )
    joined = tmp_path / "joined.mkv"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    means = [frame.image.mean() for frame in some_frames(open_source(str(joined)), 1000)]
    np.testing.assert_allclose(means, range(0, 180, 6), atol=3)


SHADES = list(range(0, 240, 8))


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "MJPG"), ("mkv", "MJPG"), ("avi", "MJPG"), ("webm", "VP80")]
)
def test_a_video_that_is_whole_is_not_called_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, codec: str
) -> None:
    path = write_video(tmp_path / f"ramp.{suffix}", SHADES, codec=codec)
    assert len(some_frames(open_source(str(path)), 1000)) == len(SHADES)
    assert not caplog.records


@pytest.mark.parametrize(
    ("suffix", "damaged"),
    [("avi", cut_video), ("mkv", cut_video), ("mp4", dented_video)],
)
def test_of_a_damaged_video_what_can_be_decoded_is_given_and_then_told(
    tmp_path: Path, suffix: str, damaged: Callable[[Path], Path]
) -> None:
    path = damaged(write_video(tmp_path / f"ramp.{suffix}", SHADES))
    given: list[float] = []
    with pytest.raises(SourceError, match=rf"{path}.* of {len(SHADES)} pictures could be decoded"):
        given.extend(frame.image.mean() for frame in open_source(str(path)).frames())
    assert given[:3] == pytest.approx(SHADES[:3], abs=3)
    if damaged is dented_video:  # and not only what comes before the dent
        assert given[-3:] == pytest.approx(SHADES[-3:], abs=3)
        assert len(given) == pytest.approx(len(SHADES), abs=1)


def test_a_video_whose_pictures_end_early_is_told_and_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of one with sound that goes on it looks the same."""
    path = dented_video(write_video(tmp_path / "ramp.mkv", SHADES))
    given = some_frames(open_source(str(path)), 1000)
    assert 3 <= len(given) < len(SHADES) - 10
    (told,) = caplog.messages
    assert f"its pictures end after {len(given) / 10:.1f} of 3.0 s" in told


MP4_HEAD = b"\0\0\0\x10ftypisom\0\0\2\0"
EBML_HEAD = bytes.fromhex("1a45dfa3 84 42868101 18538067")


@pytest.mark.parametrize(
    ("data", "cut_off"),
    [
        (MP4_HEAD + b"\0\0\0\x0cmdat1234", False),
        (MP4_HEAD + b"\0\0\0\x0cmdat123", True),
        (MP4_HEAD + b"\0\0\0\x0cmoov1234" + b"\0\0\0\x0cmdat123", True),
        (MP4_HEAD + b"\0\0\0\1mdat\0\0\0\0\0\0\0\x14123", True),  # a length in 64 bits
        (MP4_HEAD + b"\0\0\0\1mdat\0\0\0\0\0\0\0\x141234", False),
        (MP4_HEAD + b"\0\0\0\0mdat1234", False),  # to the end, wherever that is
        (MP4_HEAD + b"\0\0\0\x08mdat" + b"what a camera appends", False),
        (b"RIFF\x08\0\0\0AVI 1234", False),
        (b"RIFF\x08\0\0\0AVI 123", True),
        (EBML_HEAD + bytes.fromhex("84 01020304"), False),
        (EBML_HEAD + bytes.fromhex("84 010203"), True),
        (EBML_HEAD + bytes.fromhex("0100000000000004 010203"), True),
        (EBML_HEAD + bytes.fromhex("01ffffffffffffff 010203"), False),  # nobody knew the length
        (EBML_HEAD, False),
        (b"", False),
        (b"GIF89a", False),
    ],
)
def test_a_container_tells_where_it_ends(tmp_path: Path, data: bytes, cut_off: bool) -> None:
    path = tmp_path / "video"
    path.write_bytes(data)
    assert is_cut_off(path) is cut_off


def test_a_video_is_scaled_when_asked(tmp_path: Path) -> None:
    path = write_video(tmp_path / "ramp.avi", [0, 100, 200])
    frames = some_frames(open_source(str(path), width=32), 7)
    assert [f.image.shape for f in frames] == [(24, 32)] * 3


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("not a video")
    with pytest.raises(SourceError, match=r"notes\.mp4"):
        open_source(str(path))


FREE = np.array([20, 20, 20], np.float32)
WALL_ON_THE_LEFT = np.array([2, 3, 12], np.float32)


def test_the_bot_walks_free_ground_in_arcs() -> None:
    bot = WanderBot(np.random.default_rng(0), can_walk=True)
    moves = [bot.decide((30.0 * i, 0.0), FREE) for i in range(300)]
    assert all(move.forward for move in moves)
    turns = np.array([move.turn_deg_per_tic for move in moves])
    assert abs(np.diff(turns)).max() < 3  # smooth
    assert (turns > 0.5).any()
    assert (turns < -0.5).any()
    assert 0 < sum(move.attack for move in moves) < 100


def test_the_bot_turns_to_the_free_side_of_a_wall() -> None:
    bot = WanderBot(np.random.default_rng(0), can_walk=True)
    assert WALL_ON_THE_LEFT[1] < NEAR
    moves = [bot.decide((30.0 * i, 0.0), WALL_ON_THE_LEFT) for i in range(5)]
    assert moves[-1].turn_deg_per_tic > 2


def test_the_bot_turns_on_the_spot_where_it_is_stuck() -> None:
    bot = WanderBot(np.random.default_rng(0), can_walk=True)
    moves = [bot.decide((STUCK_MOVE / 10 * i, 0.0), FREE) for i in range(3)]
    assert moves[0].forward
    assert not moves[-1].forward
    assert moves[-1].turn_deg_per_tic != 0
    bot.reset()
    assert bot.decide((500.0, 0.0), FREE).forward


def test_a_bot_that_cannot_walk_still_looks_around() -> None:
    bot = WanderBot(np.random.default_rng(0), can_walk=False)
    moves = [bot.decide((0.0, 0.0), FREE) for _ in range(50)]
    assert not any(move.forward for move in moves)
    assert np.std([move.turn_deg_per_tic for move in moves]) > 0.3


def test_a_video_may_have_a_colon_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg takes what is before it for a protocol."""
    monkeypatch.chdir(tmp_path)
    write_video(Path("clip.avi"), [0]).rename("12:30.avi")
    with closing(open_source("12:30.avi")) as source:
        assert len(list(source.frames())) == 1
