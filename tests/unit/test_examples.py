"""The examples of the documentation: what they say where something is wrong."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from paths import ROOT
from sgaps.atlas.atlas import Atlas
from sgaps.recording import RecordedFrame
from sgaps_client.pictures import encoded_png
from toy_models import publish
from toy_segments import make_frame, write_segment
from unit import toy_room


def example() -> Callable[[str, Path, Path], None]:
    path = ROOT / "docs" / "examples" / "rebuild_frame.py"
    main: Callable[[str, Path, Path], None] = runpy.run_path(str(path))["main"]
    return main


def test_without_arguments_it_says_how_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["rebuild_frame.py"])
    with pytest.raises(SystemExit, match=r"rebuild_frame\.py atari-space_invaders data"):
        runpy.run_path(str(ROOT / "docs" / "examples" / "rebuild_frame.py"), run_name="__main__")


def test_a_rebuilt_frame_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = encoded_png(np.zeros((120, 160), np.uint8))
    write_segment(tmp_path, [make_frame(0, keyframe_encoding="png", keyframe=picture)])
    publish(tmp_path / "checkpoints")
    monkeypatch.setenv("SGAPS__DATA__CHECKPOINTS_DIR", str(tmp_path / "checkpoints"))
    main = example()
    main("doom", tmp_path, tmp_path / "rebuilt.png")
    assert "rebuilt.png" in capsys.readouterr().out
    out = tmp_path / "nowhere" / "rebuilt.png"
    with pytest.raises(SystemExit, match=f"{out} cannot be written"):
        main("doom", tmp_path, out)
    assert not capsys.readouterr().out


def test_the_middle_whole_frame_is_rebuilt_as_it_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a played session, where few frames came whole, and with the atlas of the checkpoint."""
    walk = toy_room.walk(4)
    pictures = [toy_room.seen(pose) for pose in walk]

    def whole(frame_id: int, place: int) -> RecordedFrame:
        state, png = toy_room.state_of(walk[place]), encoded_png(pictures[place])
        return make_frame(frame_id, state=state, keyframe_encoding="png", keyframe=png)

    played = [whole(0, 0), make_frame(1), whole(2, 1), *map(make_frame, range(3, 9)), whole(9, 2)]
    write_segment(tmp_path, [make_frame(0)], session_id="r", max_state_dim=8)
    write_segment(tmp_path, played, max_state_dim=8)

    def shown_by(atlas: Atlas | None) -> float:
        publish(tmp_path / "checkpoints", atlas=atlas)
        example()("doom", tmp_path, tmp_path / "rebuilt.png")
        picture = cv2.imread(str(tmp_path / "rebuilt.png"), cv2.IMREAD_GRAYSCALE)
        assert picture is not None
        truth, rebuilt = np.hsplit(picture, 2)
        np.testing.assert_array_equal(truth, pictures[1])
        return toy_room.psnr_db(rebuilt, truth)

    monkeypatch.setenv("SGAPS__DATA__CHECKPOINTS_DIR", str(tmp_path / "checkpoints"))
    monkeypatch.setenv("SGAPS__SAMPLING__DEFAULT_SAMPLE_COUNT", str(toy_room.SAMPLES))
    assert shown_by(toy_room.atlas_of(walk)) > shown_by(None) + 1


def test_recordings_without_whole_frames_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_segment(tmp_path, [make_frame(0)])
    publish(tmp_path / "checkpoints")
    monkeypatch.setenv("SGAPS__DATA__CHECKPOINTS_DIR", str(tmp_path / "checkpoints"))
    with pytest.raises(SystemExit, match=f"no whole frames of doom in {tmp_path}"):
        example()("doom", tmp_path, tmp_path / "rebuilt.png")
