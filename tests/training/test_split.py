"""Which sessions are held out from a run, to judge it by."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import pytest

from sgaps.errors import SgapsError
from sgaps.recording import find_segments
from sgaps.settings import Settings
from trainer.run import RunOptions, RunReport, train_key
from trainer.split import split_by_session
from training.toy_recordings import KEY, record, train


def test_whole_sessions_are_held_out(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        record(tmp_path, name, frames=2)
    split = split_by_session(find_segments(tmp_path), val_share=0.25)
    train_sessions = {segment.session_id for segment in split.train}
    val_sessions = {segment.session_id for segment in split.val}
    assert (len(train_sessions), len(val_sessions)) == (3, 1)
    assert train_sessions.isdisjoint(val_sessions)


def test_a_frame_or_two_are_held_out_last(soon_better: Settings) -> None:
    root = soon_better.data.recordings_dir
    for name in ("d", "e", "f", "g"):
        record(root, name, frames=2 if name == "d" else 10)
    segments = find_segments(root)
    assert split_by_session(segments, val_share=0.25).val_sessions == ("d",)
    known = {"e", "f", "g"}
    last = split_by_session(segments, val_share=0.25, trained_on=known, short={"d"})
    assert not known.isdisjoint(last.val_sessions)
    published = train(soon_better).published
    assert published is not None
    assert "d" in published.data.train_sessions


def test_what_has_no_whole_frames_is_not_held_out_where_others_have_some(
    soon_better: Settings,
) -> None:
    root = soon_better.data.recordings_dir
    for name in ("d", "e", "f", "g"):
        record(root, name, frames=12, keyframes=name != "d")
    segments = find_segments(root)
    assert split_by_session(segments, val_share=0.25).val_sessions == ("d",)
    assert split_by_session(segments, val_share=0.75, whole={"e", "f"}).val_sessions in {
        ("e",),
        ("f",),
    }
    assert split_by_session(segments, val_share=0.75, whole={"g"}).val_sessions == ("g",)
    alone = [segment for segment in segments if segment.session_id == "g"]
    assert split_by_session(alone, val_share=0.75, whole={"g"}).val_sessions == ()
    published = train(soon_better).published
    assert published is not None
    assert "d" in published.data.train_sessions


def test_what_the_champion_was_trained_on_is_held_out_last(tmp_path: Path) -> None:
    """However sessions come, none goes from training to the measure."""
    trained_on: set[str] = set()
    for count in range(2, 13):
        record(tmp_path, f"session-{count}", frames=1)
        record(tmp_path, f"another-{count}", frames=1)
        split = split_by_session(find_segments(tmp_path), val_share=0.25, trained_on=trained_on)
        assert len(split.val_sessions) == math.ceil((2 * count - 2) / 4)
        assert trained_on.isdisjoint(split.val_sessions)
        trained_on = set(split.train_sessions)
    everything = set(split.train_sessions) | set(split.val_sessions)
    again = split_by_session(find_segments(tmp_path), val_share=0.25, trained_on=everything)
    assert len(again.val_sessions) == len(split.val_sessions)


def test_a_run_holds_out_what_its_champion_has_not_seen(soon_better: Settings) -> None:
    settings = soon_better
    for name in ("d", "e", "f"):
        record(settings.data.recordings_dir, name, frames=4)
    first = train(settings).published
    assert first is not None
    assert first.data.train_sessions == ("e", "f")
    for name in ("a", "b", "c", "g"):
        record(settings.data.recordings_dir, name, frames=4)
    unaware = split_by_session(find_segments(settings.data.recordings_dir), val_share=0.25)
    assert "f" in unaware.val_sessions
    again = train(settings).published
    assert again is not None
    assert len(again.data.val_sessions) == 2
    assert {"e", "f"}.isdisjoint(again.data.val_sessions)


def test_held_out_sessions_that_are_known_are_refused(soon_better: Settings) -> None:
    settings = soon_better
    for name in ("a", "b", "c"):
        record(settings.data.recordings_dir, name, frames=4)
    segments = find_segments(settings.data.recordings_dir)

    def run_on(train: set[str], val: set[str]) -> RunReport:
        return train_key(
            KEY,
            [s for s in segments if s.session_id in train],
            settings,
            stop=threading.Event(),
            report=lambda _: None,
            options=RunOptions(val=tuple(s for s in segments if s.session_id in val)),
        )

    with pytest.raises(SgapsError, match=r"b is in data\.train too"):
        run_on({"a", "b"}, {"b", "c"})
    first = run_on({"a", "b"}, {"c"})
    assert first.published is not None
    with pytest.raises(SgapsError, match=r"was trained on 1 of .* a among them.*another --seed"):
        run_on({"c"}, {"a"})
    run_on({"a"}, {"c"})
