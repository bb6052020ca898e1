"""Retention: the oldest trained segments go, and nothing else, whatever the limits are."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from recorder import retention
from recorder.retention import Retention
from recorder_frames import with_recorder
from sgaps.errors import RecordingError
from sgaps.keys import SESSION_TTL_SECS
from sgaps.metrics.recorder import SEGMENTS_DELETED
from sgaps.recording import (
    being_read,
    find_segments,
    note_trained,
    trained_segments,
)
from sgaps.settings import Settings
from toy_segments import make_frame, write_segment

HOUR_SECS = 3600
NOW_SECS = time.time()


def seal(root: Path, key: str, session: str, number: int, *, age_secs: float) -> Path:
    frames = [make_frame(7 * number + 3)]  # all of one size
    path = write_segment(root, frames, number, checkpoint_key=key, session_id=session)
    os.utime(path, (NOW_SECS - age_secs, NOW_SECS - age_secs))
    return path


def train(settings: Settings, key: str, *paths: Path) -> None:
    root = settings.data.recordings_dir
    had = [info for info in find_segments(root, key) if info.path in paths]
    note_trained(key, settings.data.checkpoints_dir, had, root=root)


def clean(settings: Settings, **options: int) -> list[str]:
    """What is left."""
    retention = Retention(settings)
    retention.delete(retention.surplus(NOW_SECS, **options))
    return left(settings)


def left(settings: Settings) -> list[str]:
    root = settings.data.recordings_dir
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.h5*"))


@pytest.fixture
def root(settings: Settings) -> Path:
    return settings.data.recordings_dir


def test_old_trained_segments_go_and_their_empty_folders(settings: Settings, root: Path) -> None:
    old = [seal(root, "doom", "a", n, age_secs=(9 - n) * HOUR_SECS) for n in (0, 1)]
    young = seal(root, "doom", "b", 0, age_secs=2 * HOUR_SECS)
    untrained = seal(root, "doom", "c", 0, age_secs=99 * HOUR_SECS)
    other_key = seal(root, "pong", "a", 0, age_secs=99 * HOUR_SECS)
    train(settings, "doom", *old, young)
    assert clean(with_recorder(settings, keep_secs=5 * HOUR_SECS)) == [
        "doom/b/000000.h5",
        "doom/c/000000.h5",
        "pong/a/000000.h5",
    ]
    assert not (root / "doom" / "a").exists()
    assert untrained.exists()
    assert other_key.exists()


def test_without_a_limit_nothing_goes(settings: Settings, root: Path) -> None:
    train(settings, "doom", seal(root, "doom", "a", 0, age_secs=1e9))
    assert clean(settings) == clean(settings, short_bytes=10**12) == ["doom/a/000000.h5"]


def test_the_oldest_of_all_sessions_go_first(settings: Settings, root: Path) -> None:
    ages = {"a": [9, 5], "b": [8, 4], "c": [7, 3]}
    paths = [
        seal(root, "doom", session, number, age_secs=age * HOUR_SECS)
        for session, of_session in ages.items()
        for number, age in enumerate(of_session)
    ]
    train(settings, "doom", *paths)
    size_bytes = paths[0].stat().st_size
    limited = with_recorder(settings, keep_bytes=4 * size_bytes)
    kept = ["doom/a/000001.h5", "doom/b/000001.h5", "doom/c/000000.h5", "doom/c/000001.h5"]
    assert clean(limited) == clean(limited) == kept
    # A full disk takes the oldest one more.
    assert clean(limited, short_bytes=1) == [kept[0], kept[1], kept[3]]


def test_the_newest_of_a_session_is_looked_for_once_however_many_it_has(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        seal(root, "doom", "a", number, age_secs=HOUR_SECS)
    looks = []

    def newest(numbers: Sequence[int], default: int | None = None) -> int | None:
        looks.append(numbers)
        return max(numbers, default=default)

    monkeypatch.setattr(retention, "max", newest, raising=False)
    stored, _ = retention._scan(root)
    assert sorted(segment.is_newest for segment in stored) == [False] * 4 + [True]
    assert len(looks) == 1


def test_what_is_unsealed_counts_and_stays(settings: Settings, root: Path) -> None:
    sealed = seal(root, "doom", "a", 0, age_secs=9 * HOUR_SECS)
    train(settings, "doom", sealed)
    for name in ("000001.h5.part", "000002.h5.bad", "000003.h5.recovering", "000004.h5.bad.1"):
        other = sealed.with_name(name)
        other.write_bytes(sealed.read_bytes())
        os.utime(other, (0, 0))
    left_over = clean(with_recorder(settings, keep_bytes=1, keep_secs=1))
    assert left_over == [
        "doom/a/000001.h5.part",
        "doom/a/000002.h5.bad",
        "doom/a/000003.h5.recovering",
        "doom/a/000004.h5.bad.1",
    ]


def test_the_newest_segment_of_a_session_that_may_go_on_stays(
    settings: Settings, root: Path
) -> None:
    paths = [seal(root, "doom", "a", n, age_secs=60) for n in (0, 1)]
    over = seal(root, "doom", "b", 0, age_secs=SESSION_TTL_SECS + 1)
    train(settings, "doom", *paths, over)
    assert clean(with_recorder(settings, keep_bytes=1)) == ["doom/a/000001.h5"]


def test_another_segment_of_a_trained_name_stays(settings: Settings, root: Path) -> None:
    train(settings, "doom", seal(root, "doom", "a", 0, age_secs=9 * HOUR_SECS))
    (root / "doom" / "a" / "000000.h5").unlink()
    seal(root, "doom", "a", 0, age_secs=8 * HOUR_SECS)
    assert clean(with_recorder(settings, keep_secs=1)) == ["doom/a/000000.h5"]


def test_nothing_goes_while_it_is_trained_on(settings: Settings, root: Path) -> None:
    train(settings, "doom", seal(root, "doom", "a", 0, age_secs=9 * HOUR_SECS))
    train(settings, "pong", seal(root, "pong", "a", 0, age_secs=9 * HOUR_SECS))
    limited = with_recorder(settings, keep_secs=1)
    with being_read(root, "doom"), being_read(root, "doom"):
        assert clean(limited) == ["doom/a/000000.h5"]
    assert clean(limited) == []
    with being_read(root, "unknown"):
        pass


def test_what_cannot_go_now_takes_nobody_elses_place(settings: Settings, root: Path) -> None:
    """The oldest would be chosen again and again, and the disk be full of what may go."""
    ages = {"doom": 9, "pong": 8, "seaquest": 7}
    paths = {key: seal(root, key, "a", 0, age_secs=age * HOUR_SECS) for key, age in ages.items()}
    for key, path in paths.items():
        train(settings, key, path)
    size_bytes = paths["doom"].stat().st_size
    retention = Retention(with_recorder(settings, keep_bytes=2 * size_bytes))
    with being_read(root, "doom"):
        (chosen,) = retention.surplus(NOW_SECS)
    assert chosen.path == paths["pong"]


def test_a_folder_that_refuses_is_passed_over(
    settings: Settings, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of another user, after a copy into the volume; the tests may be root, who is refused
    nothing."""
    paths = [seal(root, "doom", name, 0, age_secs=9 * HOUR_SECS) for name in "abc"]
    train(settings, "doom", *paths)
    retention, unlink = Retention(with_recorder(settings, keep_secs=1)), Path.unlink

    def refusing(path: Path, missing_ok: bool = False) -> None:
        if path == paths[1]:
            raise PermissionError(13, "Permission denied")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refusing)
    with pytest.raises(RecordingError, match=r"1 sessions cannot be deleted, such as .*doom/b"):
        retention.delete(retention.surplus(NOW_SECS))
    assert left(settings) == ["doom/b/000000.h5"]
    assert retention.surplus(NOW_SECS) == []


def test_a_key_that_cannot_be_listed_keeps_no_other(
    settings: Settings,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    paths = {key: seal(root, key, "a", 0, age_secs=9 * HOUR_SECS) for key in ("doom", "pong")}
    for key, path in paths.items():
        train(settings, key, path)
    scandir = os.scandir

    def refusing(folder: Path) -> Iterator[os.DirEntry[str]]:
        if Path(folder) == root / "pong":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    retention = Retention(with_recorder(settings, keep_secs=1))
    for _ in range(2):
        (chosen,) = retention.surplus(NOW_SECS)
        assert chosen.path == paths["doom"]
    assert caplog.text.count("is counted or deleted") == 1


def test_what_another_recorder_deleted_first_is_counted_by_that_one(
    settings: Settings, root: Path
) -> None:
    train(settings, "doom", *(seal(root, "doom", name, 0, age_secs=9 * HOUR_SECS) for name in "ab"))
    retention = Retention(with_recorder(settings, keep_secs=1))
    surplus, deleted = retention.surplus(NOW_SECS), SEGMENTS_DELETED._value.get()
    retention.delete(surplus[:1])
    retention.delete(surplus)
    assert SEGMENTS_DELETED._value.get() - deleted == 2
    assert left(settings) == []


def test_a_link_in_place_of_a_keys_checkpoints_keeps_its_recordings(
    settings: Settings, root: Path, tmp_path: Path
) -> None:
    for key in ("doom", "pong"):
        train(settings, key, seal(root, key, "a", 0, age_secs=9 * HOUR_SECS))
    folder = settings.data.checkpoints_dir / "doom"
    folder.rename(tmp_path / "larger disk")
    folder.symlink_to(tmp_path / "larger disk")
    assert clean(with_recorder(settings, keep_secs=1)) == ["doom/a/000000.h5"]


def test_a_restored_backup_is_trained_as_before(settings: Settings, root: Path) -> None:
    """By `cp -a`, through archives that keep whole seconds."""
    path = seal(root, "doom", "a", 0, age_secs=9 * HOUR_SECS + 0.7)
    train(settings, "doom", path)
    os.utime(path, ns=(0, path.stat().st_mtime_ns // 10**9 * 10**9))
    assert clean(with_recorder(settings, keep_secs=1)) == []


@pytest.mark.parametrize("content", [b"", b"{", b'{"segments": [["a", "b", 3]]}', b"[]", b"\xff"])
def test_nothing_goes_without_a_readable_note(
    settings: Settings, root: Path, content: bytes
) -> None:
    path = seal(root, "doom", "a", 0, age_secs=9 * HOUR_SECS)
    train(settings, "doom", path)
    note = settings.data.checkpoints_dir / "doom" / "trained.json"
    note.write_bytes(content)
    with pytest.raises(RecordingError, match=r"trained\.json"):
        trained_segments("doom", settings.data.checkpoints_dir)
    assert clean(with_recorder(settings, keep_secs=1)) == ["doom/a/000000.h5"]


def test_whatever_the_limits_only_trained_segments_go(settings: Settings, root: Path) -> None:
    rng = random.Random(2)
    paths = [
        seal(root, key, session, number, age_secs=rng.uniform(0, 9) * HOUR_SECS)
        for key in ("doom", "pong")
        for session in "abc"
        for number in range(3)
    ]
    trained = set(rng.sample(paths, 9))
    for key in ("doom", "pong"):
        train(settings, key, *trained)
    for _ in range(12):
        limited = with_recorder(
            settings,
            keep_secs=rng.choice([None, rng.uniform(1, 9) * HOUR_SECS]),
            keep_bytes=rng.choice([None, rng.randrange(1, 10**7)]),
        )
        clean(limited, short_bytes=rng.choice([0, 10**6]))
        gone = {path for path in paths if not path.exists()}
        assert gone <= trained
    clean(with_recorder(settings, keep_bytes=1))
    still = [path for path in trained if path.exists()]
    assert all(NOW_SECS - path.stat().st_mtime < SESSION_TTL_SECS for path in still)
    assert len(still) < len(trained)
