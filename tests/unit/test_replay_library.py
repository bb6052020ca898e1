"""Recordings as a replay sees them: one run of frames, by id, in time."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replays import FRAME_SECS, KEY, captured, record, served
from sgaps.recording import frames_before
from sgaps_cli.replay.errors import NotListed, ReplayError
from sgaps_cli.replay.library import LONGEST_PAUSE_SECS, OPEN_SEGMENTS, Library, playing_times


def test_segments_are_one_run_of_frames_in_order_each_once(tmp_path: Path) -> None:
    record(tmp_path, "s", map(served, (0, 1, 2, 4)))
    record(tmp_path, "s", map(served, (5, 3, 4, 6)))  # delivered again, or out of order
    library = Library(tmp_path)
    (recording,) = library.scan()
    reel = library.reel(recording.recording_id)
    assert reel.frame_ids.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert np.flatnonzero(reel.has_keyframe).tolist() == [0, 3, 6]
    assert [library.read(reel, at).frame_id for at in range(len(reel))] == list(range(7))
    size = library.read(reel, 5).width, library.read(reel, 5).height
    before = frames_before(partial(library.read, reel), reel.frame_ids, 5, 3, size=size)
    assert [(age, frame.frame_id) for age, frame in before] == [(1, 4), (2, 3), (3, 2)]


def test_more_segments_than_are_kept_open(tmp_path: Path) -> None:
    count = 2 * OPEN_SEGMENTS + 1
    for frame_id in range(count):
        record(tmp_path, "s", [served(frame_id)])
    library = Library(tmp_path)
    (recording,) = library.scan()
    reel = library.reel(recording.recording_id)
    for at in (*range(count), 0, count - 1):
        assert library.read(reel, at).frame_id == at


def test_what_a_state_lacked_is_missing_whatever_the_sentinel_was(tmp_path: Path) -> None:
    missing = dataclasses.replace(served(0), state=np.array([2, -999], np.float32))
    record(tmp_path, "s", [missing])
    library = Library(tmp_path, sentinel=-1)
    (recording,) = library.scan()
    assert library.read(library.reel(recording.recording_id), 0).state.tolist() == [2, -1]


def test_the_newest_recording_comes_first(tmp_path: Path) -> None:
    for session in ("b", "a", "c"):
        record(tmp_path, session, [served(0)])
    newest_first = sorted(
        Library(tmp_path).scan(), key=lambda one: one.modified_at_secs, reverse=True
    )
    assert Library(tmp_path).scan() == newest_first
    assert {one.recording_id for one in newest_first} == {f"{KEY}/{name}" for name in "abc"}


def test_what_cannot_be_read_is_counted_and_the_rest_is_there(tmp_path: Path) -> None:
    record(tmp_path, "s", [served(0)])
    torn = record(tmp_path, "s", map(served, (1, 2)))
    torn.write_bytes(torn.read_bytes()[:700])
    strange = record(tmp_path, "other", [served(9)])
    strange.rename(torn.with_name("000007.h5"))  # another session's
    library = Library(tmp_path)
    (recording,) = library.scan()
    assert (recording.frame_count, recording.damaged) == (1, 2)
    assert len(library.reel(recording.recording_id)) == 1


def test_only_what_was_listed_is_read(tmp_path: Path) -> None:
    record(tmp_path / "inside", "s", [served(0)])
    record(tmp_path / "outside", "s", [served(0)])
    library = Library(tmp_path / "inside")
    with pytest.raises(NotListed, match="load the page again"):
        library.reel(f"{KEY}/s")  # not listed yet
    library.scan()
    reel = library.reel(f"{KEY}/s")
    for name in (f"../outside/{KEY}/s", f"{KEY}/../{KEY}/s", "", str(tmp_path / "outside")):
        with pytest.raises(NotListed):
            library.reel(name)
    for position in (-1, 1, 2**64):
        with pytest.raises(NotListed, match="frames 0 to 0"):
            library.read(reel, position)


def test_a_recording_of_damaged_segments_names_the_cure(tmp_path: Path) -> None:
    path = record(tmp_path, "s", [captured(0)])
    path.write_bytes(b"no segment")
    library = Library(tmp_path)
    (recording,) = library.scan()
    with pytest.raises(ReplayError, match="sgaps recordings repair"):
        library.reel(recording.recording_id)


@given(st.lists(st.floats(-1e9, 1e9), max_size=30))
def test_time_never_stands_runs_back_or_waits_long(clock: list[float]) -> None:
    times = playing_times(np.array(clock), FRAME_SECS)
    assert len(times) == len(clock)
    gaps = np.diff(times)
    assert (gaps >= 0).all()
    assert (gaps <= LONGEST_PAUSE_SECS + 1e-3).all()


def test_it_plays_at_the_recorded_rate_without_its_pauses() -> None:
    clock = np.array([100.0, 100.2, 100.2, 99.0, 900.0])
    assert playing_times(clock, 0.1) == [0.0, 0.2, 0.3, 0.4, 0.4 + LONGEST_PAUSE_SECS]
    assert playing_times(np.empty(0), 0.1) == []


def test_a_recording_without_a_frame_is_told(tmp_path: Path) -> None:
    record(tmp_path, "s", [])
    library = Library(tmp_path)
    (recording,) = library.scan()
    with pytest.raises(ReplayError, match="has no frames"):
        library.reel(recording.recording_id)
