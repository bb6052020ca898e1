"""A folder of pictures as a source of frames."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sgaps.errors import SourceError
from sgaps_client.sources import GameFrame, open_source
from sgaps_client.sources.base import resize
from videos import write_video


def frames_of(folder: Path) -> list[GameFrame]:
    return list(open_source(str(folder)).frames())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, shade, width in (("b.png", 20, 8), ("a.jpg", 10, 8), ("c.PNG", 30, 16)):
        picture = np.full((width * 3 // 4, width, 3), shade, np.uint8)
        cv2.imwrite(str(tmp_path / name), picture)
    (tmp_path / "readme.txt").write_text("no picture")
    return tmp_path


def test_pictures_come_by_name_in_one_size(folder: Path) -> None:
    frames = frames_of(folder)
    assert [round(float(f.image.mean())) for f in frames] == [10, 20, 30]
    assert {f.image.shape for f in frames} == {(6, 8)}


def test_how_many_pictures_are_of_another_size_is_said(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames_of(folder)
    (told,) = caplog.messages
    assert "1 pictures of another size became 8x6" in told
    (folder / "c.PNG").unlink()
    caplog.clear()
    frames_of(folder)
    assert caplog.messages == []


@pytest.mark.parametrize(("kind", "white"), [(np.uint8, 255), (np.uint16, 65535)])
def test_what_is_transparent_is_over_black(
    kind: type[np.unsignedinteger], white: int, tmp_path: Path
) -> None:
    """Whatever colour a program left under it."""
    picture = np.full((1, 3, 4), white, kind)
    picture[0, :, 3] = (0, white // 5, white)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    (frame,) = frames_of(tmp_path)
    assert frame.image.tolist() == [[0, 51, 255]]


def test_a_colour_that_stands_for_none_is_black(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    picture.putpalette([200, 200, 200, 100, 100, 100])
    picture.save(tmp_path / "a.png", transparency=0)
    (frame,) = frames_of(tmp_path)
    assert frame.image.tolist() == [[0, 100]]


@pytest.mark.parametrize(("width", "height"), [(64, 8), (8, 64), (8, 8)])
def test_a_side_that_shrinks_is_averaged_whatever_the_other_does(width: int, height: int) -> None:
    """Of every fourth line white a quarter is left, and no line is lost."""
    y, x = np.mgrid[:32, :32]
    lines = x if width < 32 else y
    picture = np.where(lines % 4 == 1, 200, 0).astype(np.uint8)
    assert set(resize(picture, width=width, height=height).flat) == {50}


def test_a_broken_picture_is_named(folder: Path) -> None:
    (folder / "b.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(SourceError, match=r"b\.png"):
        frames_of(folder)


def test_names_that_are_not_utf_8_are_read_or_refused(folder: Path, tmp_path: Path) -> None:
    """OpenCV ends the whole process there."""
    latin = os.fsdecode(b"caf\xe9")
    (folder / "b.png").rename(folder / f"{latin}.png")
    assert frames_of(folder)
    video = write_video(tmp_path / "ramp.avi", [0, 100])
    with pytest.raises(SourceError, match="rename it"):
        open_source(str(video.rename(tmp_path / f"{latin}.avi")))


def test_a_picture_that_claims_to_be_huge_is_named(tmp_path: Path) -> None:
    jpeg = bytearray(cv2.imencode(".jpg", np.zeros((240, 320), np.uint8))[1].tobytes())
    size_at = jpeg.index(b"\xff\xc0") + 5
    jpeg[size_at], jpeg[size_at + 2] = 0xF0, 0xF1
    (tmp_path / "huge.jpg").write_bytes(jpeg)
    with pytest.raises(SourceError, match=r"huge\.jpg"):
        open_source(str(tmp_path))


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"\.png"):
        open_source(str(tmp_path))


def test_numbered_pictures_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """As ffmpeg's %d writes them; what is hidden is not meant."""
    for number in (10, 9, 2):
        cv2.imwrite(str(tmp_path / f"frame_{number}.png"), np.full((4, 6), number, np.uint8))
    (tmp_path / "._frame_1.png").write_bytes(b"of a Mac")
    (tmp_path / "folder.png").mkdir()
    source = open_source(str(tmp_path))
    assert [int(frame.image[0, 0]) for frame in source.frames()] == [2, 9, 10]
