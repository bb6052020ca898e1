"""Whether a video file is there to its end, by the sizes that its container tells."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

EBML = bytes.fromhex("1a45dfa3")
SEGMENT = bytes.fromhex("18538067")
MP4_HEAD_BYTES = 8
"""Length and name of a box, before what is in it."""
SEGMENT_WITHIN_BYTES = 256
"""EBML's header is about 40 bytes; the segment with all the pictures comes next."""


def is_cut_off(path: Path) -> bool:
    """Whether an MP4, AVI or Matroska file ends before its container says; others tell nothing.

    Raises OSError.
    """
    with path.open("rb") as file:
        head = file.read(SEGMENT_WITHIN_BYTES)
        size_bytes = file.seek(0, os.SEEK_END)
        if head[4:8] == b"ftyp":
            return _end_of_mp4(file, size_bytes) > size_bytes
    if head.startswith(b"RIFF"):
        return 8 + int.from_bytes(head[4:8], "little") > size_bytes
    return head.startswith(EBML) and _end_of_matroska(head) > size_bytes


def _end_of_mp4(file: BinaryIO, size_bytes: int) -> int:
    """Where the first box with pictures ends that reaches beyond the file; else 0.

    Of the others none is looked at: some cameras append what is no box.
    """
    at = 0
    while at < size_bytes:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4])
        if length == 1:
            length = int.from_bytes(head[8:])
        if length < MP4_HEAD_BYTES:  # 0: it goes to the end of the file
            return 0
        at += length
        if head[4:8] == b"mdat" and at > size_bytes:
            return at
    return 0


def _end_of_matroska(head: bytes) -> int:
    """Where the segment ends; 0 where that is not told, as after a recording that was cut off."""
    at = head.find(SEGMENT) + len(SEGMENT)
    if at < len(SEGMENT) or at >= len(head) or head[at] == 0:
        return 0
    width = 9 - head[at].bit_length()  # zeros before the first one, and itself
    bits = 7 * width
    length = int.from_bytes(head[at : at + width]) & ((1 << bits) - 1)
    return 0 if length == (1 << bits) - 1 else at + width + length
