"""`sgaps export`: a recording becomes a video, whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from replays import HEIGHT, KEY, WIDTH, captured, record, scene, served
from sgaps.checkpoints import DEFAULT_KEY, UNTRAINED
from sgaps.protocol.views import decode_view
from sgaps.sampling.footprints import mosaic
from sgaps.settings import load_settings
from sgaps.whole_frames import picture_psnr_db
from sgaps_cli.replay.desk import Desk
from sgaps_client.pictures import decoded_png
from sgaps_command import run_here

FRAMES = 5
ALIKE_DB = 35.0
"""x264 at this quality loses little."""


def exported(root: Path, *arguments: object) -> Path:
    done = run_here("export", "--root", root, "--out", root / "clip.mp4", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{root / 'clip.mp4'}\n"
    return root / "clip.mp4"


def shown(video: Path) -> tuple[list[NDArray[np.uint8]], list[float]]:
    """The pictures (H, W), and when each is shown."""
    with av.open(str(video)) as container:
        frames = list(container.decode(video=0))
    pictures = [np.asarray(frame.to_ndarray(format="gray"), np.uint8) for frame in frames]
    return pictures, [float((frame.pts or 0) * (frame.time_base or 1)) for frame in frames]


def test_it_shows_each_frame_as_it_is_rebuilt_at_its_time(tmp_path: Path) -> None:
    record(tmp_path, "s", map(served, range(FRAMES)))
    pictures, times_secs = shown(exported(tmp_path, f"{KEY}/s"))
    assert times_secs == pytest.approx([0.1 * number for number in range(FRAMES)], abs=1e-3)
    desk = Desk(tmp_path, load_settings(environment={}))
    pair: Sequence[str] = desk.catalog()["recordings"][0]["pair"]  # type: ignore[index]
    for position, picture in enumerate(pictures):
        assert picture.shape == (HEIGHT, WIDTH)
        rebuilt = decode_view(desk.view(f"{KEY}/s", position, pair[0])).reconstruction
        assert picture_psnr_db(picture, decoded_png(rebuilt)) > ALIKE_DB
    desk.close()


def test_samples_are_beside_it_and_the_truth_where_all_of_it_is_known(tmp_path: Path) -> None:
    record(tmp_path, "s", map(served, range(FRAMES)))
    picture = shown(exported(tmp_path, "--beside", "--checkpoint", "untrained"))[0][2]
    assert picture.shape == (HEIGHT, 2 * WIDTH)
    painted = mosaic(served(2).samples, WIDTH, HEIGHT)
    assert picture_psnr_db(picture[:, :WIDTH], painted) > ALIKE_DB
    (tmp_path / "clip.mp4").unlink()
    record(tmp_path, "whole", map(captured, range(FRAMES)))
    picture = shown(exported(tmp_path, f"{KEY}/whole", "--beside", "--checkpoint", UNTRAINED))[0][2]
    assert picture.shape == (HEIGHT, 3 * WIDTH)
    assert picture_psnr_db(picture[:, 2 * WIDTH :], scene(2)) > ALIKE_DB


def test_the_newest_recording_is_taken_and_called_by_its_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path, "older", [served(0)])
    record(tmp_path, "newer", [served(0), served(1)])
    monkeypatch.chdir(tmp_path)
    done = run_here("export", "--root", tmp_path, "--checkpoint", UNTRAINED)
    assert done.stdout == "newer.mp4\n"
    assert len(shown(tmp_path / "newer.mp4")[0]) == 2


def test_a_named_checkpoint_rebuilds_it(tmp_path: Path) -> None:
    (version,) = load_settings(environment={}).data.shipped_dir.glob(f"{DEFAULT_KEY}/v*")
    record(tmp_path, "s", map(served, range(2)))
    by_model = shown(exported(tmp_path, "--checkpoint", f"{DEFAULT_KEY}/{version.name}"))[0]
    (tmp_path / "clip.mp4").unlink()
    by_nothing = shown(exported(tmp_path, "--checkpoint", UNTRAINED))[0]
    assert np.abs(by_model[1].astype(int) - by_nothing[1]).max() > 20


def test_what_cannot_be_read_is_left_out_and_told(tmp_path: Path) -> None:
    record(tmp_path, "s", map(served, range(2)))
    record(tmp_path, "s", map(served, range(2, 4))).write_bytes(b"torn")
    out = tmp_path / "clip.mp4"
    done = run_here("export", "--root", tmp_path, "--out", out, "--checkpoint", UNTRAINED)
    assert done.returncode == 0
    assert len(shown(out)[0]) == 2
    assert f"sgaps recordings repair --root {tmp_path}" in done.stderr


def test_a_size_that_x264_does_not_take_is_told(tmp_path: Path) -> None:
    record(tmp_path, "s", [served(0, width=20000, height=3, keyframe=b"", keyframe_encoding="")])
    out = tmp_path / "clip.mp4"
    done = run_here("export", "--root", tmp_path, "--out", out, "--checkpoint", UNTRAINED)
    assert done.returncode == 1
    assert f"{out} cannot be written" in done.stderr


def test_frames_of_one_moment_are_all_shown(tmp_path: Path) -> None:
    record(tmp_path, "s", [served(number, received_at_secs=1e9) for number in range(FRAMES)])
    _, times_secs = shown(exported(tmp_path, "--checkpoint", UNTRAINED))
    assert len(set(times_secs)) == FRAMES


def test_what_can_be_no_video_frame_becomes_one(tmp_path: Path) -> None:
    """Odd sides, another size in the middle, a frame of which nothing is known."""
    nothing = np.empty((0, 4), np.float32)
    odd = [
        served(number, width=95, height=63, keyframe=b"", keyframe_encoding="") for number in (1, 2)
    ]
    larger = [served(3, keyframe=b"", keyframe_encoding=""), served(4, samples=nothing)]
    record(tmp_path, "s", [*odd, *larger])
    pictures, times_secs = shown(exported(tmp_path, "--checkpoint", UNTRAINED))
    assert [picture.shape for picture in pictures] == [(64, 96)] * 3
    assert times_secs == pytest.approx([0, 0.1, 0.2], abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "cures"),
    [
        (["toy/other"], ["no recording toy/other", "there are toy/s", "sgaps recordings list"]),
        (["--checkpoint", "v9"], ["no checkpoint v9", DEFAULT_KEY, "sgaps checkpoints list"]),
        (["--out", "clip.gif"], ["clip.gif: a video ends in .mp4"]),
        (["--out", "no/clip.mp4"], ["there is no folder", "no: make it first"]),
        (["--out", "there.mp4"], ["there.mp4 is there already", "--out"]),
        (["--out", "taken.mp4"], ["taken.mp4 cannot be written", "directory"]),
        (["toy/torn"], ["sgaps recordings repair"]),
        (["toy/blank"], ["toy/blank has neither samples nor true frames"]),
    ],
)
def test_what_is_wrong_is_told_with_its_cure(
    arguments: list[str], cures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "recordings"
    nothing = np.empty((0, 4), np.float32)
    record(root, "torn", [served(0)]).write_bytes(b"torn")
    record(root, "blank", [served(1, samples=nothing)])
    record(root, "s", [served(0)])
    (tmp_path / "there.mp4").write_bytes(b"a film")
    (tmp_path / "taken.mp4.part").mkdir()
    done = run_here("export", "--root", root, *arguments)
    assert done.returncode == 1
    assert all(cure in done.stderr for cure in cures), done.stderr
    assert not any(path.is_file() for path in tmp_path.glob("*.mp4.part"))
    assert (tmp_path / "there.mp4").read_bytes() == b"a film"


def test_a_video_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path, "s", [served(0), served(1, state=np.array([1.0] * 4, np.float32))])

    def interrupted(*_: object, **__: object) -> Fraction:
        raise KeyboardInterrupt

    monkeypatch.setattr("sgaps_cli.replay.export.rebuild", interrupted)
    done = run_here("export", "--root", tmp_path, "--out", tmp_path / "clip.mp4")
    assert done.returncode != 0
    assert list(tmp_path.glob("clip*")) == []
