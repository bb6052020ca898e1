"""Segments: what is written is read back, in the documented layout, and nothing else is."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockless import refuse_locks
from sgaps.errors import DiskFull, RecordingCorrupt, RecordingError, StorageFails
from sgaps.locks import is_locked
from sgaps.recording import (
    RecordedFrame,
    SegmentInfo,
    SegmentReader,
    SegmentWriter,
    being_read,
    find,
    find_segments,
    recover_parts,
    segment_info,
)
from sgaps.recording.datasets import MAX_CHUNK_BYTES
from sgaps.recording.disk import ensure_free_space, lock_recordings
from sgaps.recording.layout import part_paths, sealed_paths
from toy_segments import content, keyframe, make_frame, open_writer, write_segment

GROUP = "/doom/s-1/frames"


def break_disk(writer: SegmentWriter) -> None:
    """Every write of HDF5 to this segment ends in "no space left on device" from here on."""
    full = os.open("/dev/full", os.O_RDWR)
    os.dup2(full, writer._file.id.get_vfd_handle())
    os.close(full)


frames_strategy = st.lists(
    st.builds(
        lambda frame_id, picture: make_frame(
            frame_id, keyframe_encoding="jpeg" if picture else "", keyframe=picture
        ),
        st.integers(0, 2**64 - 2),
        st.binary(max_size=9),
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(frames_strategy, st.lists(st.booleans(), min_size=12, max_size=12))
def test_what_is_written_is_read_back(frames: list[RecordedFrame], syncs: list[bool]) -> None:
    with tempfile.TemporaryDirectory() as root:
        writer = open_writer(Path(root))
        for frame, sync in zip(frames, syncs, strict=False):
            writer.append([frame])
            if sync:
                writer.sync()
        assert writer.frame_ids().tolist() == [frame.frame_id for frame in frames]
        with SegmentReader(writer.seal()) as reader:
            assert [content(f) for f in reader] == [content(f) for f in frames]
            assert len(reader) == len(frames)


def test_the_layout_is_the_documented_one(tmp_path: Path) -> None:
    path = write_segment(tmp_path, [make_frame(2), keyframe(3)])
    assert path == tmp_path / "doom" / "s-1" / "000000.h5"
    with h5py.File(path) as file:
        assert dict(file.attrs) == {
            "schema_version": 1,
            "checkpoint_key": "doom",
            "session_id": "s-1",
            "max_state_dim": 4,
            "sentinel": -999.0,
        }
        group = file[GROUP]
        shapes = {name: (d.shape, d.dtype.name) for name, d in group.items() if name != "index"}
        assert shapes == {
            "pixels": ((5, 3), "float32"),
            "footprints": ((5,), "uint8"),
            "keyframes": ((5,), "uint8"),
            "state_vectors": ((2, 4), "float32"),
            "resolution": ((2, 2), "uint32"),
            "timestamps": ((2, 2), "float64"),
            "checksums": ((2, 2), "uint32"),
        }
        assert group["state_vectors"][0, 2:].tolist() == [-999.0, -999.0]
        assert group["resolution"][0].tolist() == [160, 120]
        assert group["timestamps"][0].tolist() == [0.2, 1e9 + 2]
        assert group["index"][:].tolist() == [(2, 0, 2, 0, 0, 0, 3, 2), (3, 2, 3, 0, 5, 1, 4, 3)]
        encodings = h5py.check_enum_dtype(group["index"].dtype["keyframe_encoding"])
        assert encodings == {"none": 0, "png": 1, "jpeg": 2}


def change(path: Path, name: str, row: int, value: Any) -> None:
    """As a disk may do it, or a power cut: to something that might have been written."""
    dataset_name, _, field = name.partition(".")
    with h5py.File(path, "r+") as file:
        dataset = file[f"{GROUP}/{dataset_name}"]
        before, rows = dataset[:], dataset[:]
        (rows[field] if field else rows)[row] = value
        assert (before != rows).any()
        dataset[:] = rows


@pytest.mark.parametrize(
    ("name", "row", "value"),
    [
        ("pixels", 4, 0.0),
        ("footprints", 4, 16),
        ("state_vectors", 1, 0.5),
        ("resolution", 1, (320, 240)),
        ("timestamps", 1, 0.0),
        ("index.frame_id", 1, 9),
        ("index.coordinate_set_id", 1, 9),
        ("index.pixels_offset", 1, 1),
        ("index.pixels_count", 1, 2),
        ("index.keyframe_encoding", 1, 2),
        ("keyframes", 4, 0),
        ("checksums", 1, 0),
    ],
)
def test_what_was_not_written_is_not_read(name: str, row: int, value: Any, tmp_path: Path) -> None:
    path = write_segment(tmp_path, [make_frame(2), keyframe(3)])
    change(path, name, row, value)
    with SegmentReader(path) as reader:
        assert content(reader.read(0)) == content(make_frame(2))
        with pytest.raises(RecordingCorrupt, match="is not what was written"):
            reader.read(1)


def test_beside_a_keyframe_that_is_not_what_was_written_the_rest_is_read(tmp_path: Path) -> None:
    path = write_segment(tmp_path, [keyframe(3)])
    change(path, "keyframes", 4, 0)
    with SegmentReader(path) as reader:
        rest = reader.read(0, keyframe=False)
    assert content(rest) == content(make_frame(3))


def test_a_recording_without_checksums_is_older_and_read_as_it_is(tmp_path: Path) -> None:
    frames = [make_frame(2), keyframe(3)]
    path = write_segment(tmp_path, frames)
    with h5py.File(path, "r+") as file:
        del file[f"{GROUP}/checksums"]
    with SegmentReader(path) as reader:
        assert [content(frame) for frame in reader] == [content(frame) for frame in frames]


def test_no_metadata_can_be_torn_between_two_pages(tmp_path: Path) -> None:
    path = write_segment(tmp_path, [make_frame(i) for i in range(600)])
    places = [
        match.start() for match in re.finditer(rb"OHDR|OCHK|EAHD|EAIB|EADB", path.read_bytes())
    ]
    assert len(places) > 20
    assert {place % 512 for place in places} == {0}


def test_a_frame_exists_once_it_is_synced(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    copy = tmp_path / "copy.h5"

    def frames_on_disk() -> list[int]:
        shutil.copy(writer.part_path, copy)
        with SegmentReader(copy, salvage=True) as reader:
            return [frame.frame_id for frame in reader]

    writer.append([make_frame(1), make_frame(2)])
    assert (frames_on_disk(), writer.frame_count) == ([], 2)
    writer.sync()
    assert frames_on_disk() == [1, 2]
    assert writer.size_bytes == writer.part_path.stat().st_size
    writer.seal()


def test_a_sealed_segment_is_left_alone(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.append([make_frame(1)])
    path = writer.seal()
    before = path.read_bytes()
    with pytest.raises(RecordingError, match="closed"):
        writer.append([make_frame(2)])
    with pytest.raises(RecordingError, match="sealed"):
        open_writer(tmp_path)
    writer.abandon()
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["000000.h5"]


def test_a_segment_has_one_writer(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    with pytest.raises(RecordingError, match="exists"):
        open_writer(tmp_path)
    writer.append([make_frame(1)])
    assert segment_info(writer.seal()).frame_count == 1


def test_a_segment_that_is_deleted_while_it_is_looked_into_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_writer(tmp_path)
    writer.append([make_frame(1)])
    path, read_index = writer.seal(), SegmentReader._read_index

    def read_and_delete(reader: SegmentReader, *, salvage: bool) -> None:
        read_index(reader, salvage=salvage)
        path.unlink()

    monkeypatch.setattr(SegmentReader, "_read_index", read_and_delete)
    with pytest.raises(RecordingError, match="No such file"):
        segment_info(path)


def test_a_folder_that_is_deleted_while_it_is_listed_has_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_dir", lambda _: True)
    assert sealed_paths(tmp_path / "gone") == part_paths(tmp_path / "gone") == []


@pytest.mark.parametrize("text", ["", "a/b", "..", "x\0y", "ä", "a\n", "a" * 65])
@pytest.mark.parametrize("name", ["checkpoint_key", "session_id"])
def test_illegal_ids_are_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(RecordingError, match="no legal"):
        open_writer(tmp_path, 0, **{name: text})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"frame_id": -1},
        {"coordinate_set_id": 2**64},
        {"width": 0},
        {"height": 2**16},
        {"client_time_secs": float("nan")},
        {"received_at_secs": float("inf")},
        {"samples": np.array([[0, 0, 0, 1.0]])},
        {"samples": np.zeros((1, 3), np.float32)},
        {"samples": np.zeros(4, np.float32)},
        {"state": np.full(2, np.inf, np.float32)},
        {"state": np.zeros((1, 1), np.float32)},
        {"keyframe": b"x"},
        {"keyframe_encoding": "png"},
        {"keyframe_encoding": "gif", "keyframe": b"x"},
    ],
)
def test_a_frame_that_could_not_be_read_back_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RecordingError, match="frame "):
        make_frame(**({"frame_id": 1} | changes))


def test_what_is_missing_is_told_by_the_sentinel_of_whoever_reads(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.append([make_frame(1, state=np.array([3, -999, 0], np.float32))])
    path = writer.seal()
    with SegmentReader(path, sentinel=-1) as reader:
        assert reader.read(0).state.tolist() == reader.state(0).tolist() == [3, -1, 0]
        assert reader.sentinel == -1
    with SegmentReader(path) as reader:
        assert reader.state(0).tolist() == [3, -999, 0]


def test_a_segment_that_cannot_be_made_or_taken_back_keeps_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails may become read-only at once; when it is well, the session goes on."""

    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(SegmentWriter, "_create", fails)
        patch.setattr(Path, "unlink", fails)
        with pytest.raises(RecordingError, match="cannot create"):
            open_writer(tmp_path)
    (part,) = tmp_path.rglob("*.part")
    assert not is_locked(part)


def test_a_state_that_is_too_long_does_no_harm(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    with pytest.raises(RecordingError, match="5 state values, at most 4"):
        writer.append([make_frame(1), make_frame(2, state=np.zeros(5, np.float32))])
    writer.append([make_frame(3)])
    with SegmentReader(writer.seal()) as reader:
        assert reader.frame_ids.tolist() == [3]


@pytest.mark.parametrize(
    "sample", [[np.nan, 0, 0, 1], [0, 0, 1.5, 1], [0, -0.1, 0, 1], [0, 0, 0, 3], [0, 0, 0, np.nan]]
)
def test_a_sample_that_could_not_be_read_back_does_no_harm(
    tmp_path: Path, sample: list[float]
) -> None:
    writer = open_writer(tmp_path)
    with pytest.raises(RecordingError, match=r"frame 2: a (sample|footprint) is"):
        writer.append([make_frame(1), make_frame(2, samples=np.array([sample], np.float32))])
    writer.append([make_frame(3)])
    with SegmentReader(writer.seal()) as reader:
        assert reader.frame_ids.tolist() == [3]


def test_a_full_disk_is_a_typed_error_and_loses_nothing_synced(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.append([keyframe(i) for i in range(10)])
    writer.sync()
    break_disk(writer)
    writer.append([keyframe(10)])
    with pytest.raises(RecordingError, match="No space left"):
        writer.sync()
    with pytest.raises(RecordingError, match="failed before"):
        writer.seal()
    writer.abandon()
    (recovered,) = recover_parts(tmp_path)
    with SegmentReader(recovered.path) as reader:
        assert [content(f) for f in reader] == [content(keyframe(i)) for i in range(10)]


def test_too_little_space_is_disk_full(tmp_path: Path) -> None:
    ensure_free_space(tmp_path, 1)
    with pytest.raises(DiskFull, match="are needed"):
        ensure_free_space(tmp_path, 2**60)
    with pytest.raises(StorageFails, match="absent"):
        ensure_free_space(tmp_path / "absent", 1)


def _replace(name: str, **dataset: Any) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        del file[f"{GROUP}/{name}"]
        file[GROUP].create_dataset(name, **dataset)

    return damage


def _index(field: str, value: int) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        rows = file[f"{GROUP}/index"][:]
        rows[field][1] = value
        file[f"{GROUP}/index"][:] = rows

    return damage


def _attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, value)


def _elsewhere(file: h5py.File) -> None:
    del file[f"{GROUP}/pixels"]
    file[f"{GROUP}/pixels"] = h5py.ExternalLink("other.h5", f"{GROUP}/pixels")


def _group_elsewhere(file: h5py.File) -> None:
    key = GROUP.split("/")[1]
    del file[key]
    file[key] = h5py.ExternalLink("other.h5", f"/{key}")


def _dataset_for_group(file: h5py.File) -> None:
    del file[GROUP]
    file[GROUP] = [1.0]


def _large_chunks(file: h5py.File) -> None:
    """A megabyte of zeros takes a thousandth of it on disk, and all of it in memory."""
    rows, width = 2 * MAX_CHUNK_BYTES // 16, 4
    states = file[f"{GROUP}/state_vectors"][:]
    del file[f"{GROUP}/state_vectors"]
    options = {"maxshape": (None, width), "chunks": (rows, width), "compression": "gzip"}
    file[GROUP].create_dataset("state_vectors", data=states, **options)


def _packed(file: h5py.File) -> None:
    """A stream that says of itself how much it unpacks to: here a thousand times its chunk."""
    index = file[f"{GROUP}/index"][:]
    del file[f"{GROUP}/index"]
    packed = file[GROUP].create_dataset(
        "index", data=index, maxshape=(None,), chunks=index.shape, compression="gzip"
    )
    packed.id.write_direct_chunk((0,), zlib.compress(index.tobytes() + bytes(1000 * index.nbytes)))


DAMAGES: dict[str, Callable[[h5py.File], None]] = {
    "chunks that unpack to more than anybody wrote": _large_chunks,
    "a chunk that unpacks to more than it claims": _packed,
    "no group": lambda file: file.__delitem__(GROUP),
    "no index": lambda file: file.__delitem__(f"{GROUP}/index"),
    "no timestamps": lambda file: file.__delitem__(f"{GROUP}/timestamps"),
    "no version": lambda file: file.attrs.__delitem__("schema_version"),
    "other version": _attribute("schema_version", 2),
    "other session": _attribute("session_id", "s-2"),
    "session is a path": _attribute("session_id", "../s-1"),
    "session is a number": _attribute("session_id", 7),
    "width is text": _attribute("max_state_dim", "many"),
    "width is infinite": _attribute("max_state_dim", float("inf")),
    "width is negative": _attribute("max_state_dim", -4),
    "width is a list": _attribute("max_state_dim", [4, 4]),
    "group is a dataset": _dataset_for_group,
    "pixels are flat": _replace("pixels", data=np.zeros(9, "f4"), chunks=(9,)),
    "too few footprints": _replace("footprints", data=np.ones(4, "u1"), chunks=(4,)),
    "footprints are floats": _replace("footprints", data=np.ones(5, "f4"), chunks=(5,)),
    "pixels are doubles": _replace("pixels", data=np.zeros((5, 3)), chunks=(5, 3)),
    "pixels are a lie": _replace("pixels", shape=(2**50, 3), chunks=(99, 3), dtype="f4"),
    "pixels wrap": _replace("pixels", shape=(2**62, 3), chunks=(99, 3), dtype="f4"),
    "index is a lie": _replace("index", shape=(2**40,), chunks=(99,), dtype="u8"),
    "pixels are elsewhere": _elsewhere,
    "all is elsewhere": _group_elsewhere,
    "pixels are any file": _replace(
        "pixels", shape=(1, 3), dtype="f4", external=[("/etc/passwd", 0, 12)]
    ),
    "too few states": _replace("state_vectors", shape=(1, 4), chunks=(1, 4), dtype="f4"),
    "too few checksums": _replace("checksums", shape=(1, 2), chunks=(1, 2), dtype="u4"),
    "offset": _index("pixels_offset", 3),
    "offset wraps": _index("pixels_offset", 2**64 - 1),
    "count": _index("pixels_count", 4),
    "keyframe offset": _index("keyframe_offset", 1),
    "keyframe size": _index("keyframe_size", 6),
    "keyframe without encoding": _index("keyframe_encoding", 0),
    "encoding": _index("keyframe_encoding", 3),
    "state count": _index("state_count", 5),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_segment_is_corrupt(tmp_path: Path, damage: Callable[[h5py.File], None]) -> None:
    path = write_segment(tmp_path, [make_frame(2), keyframe(3)])
    shutil.copy(path, path.with_name("other.h5"))
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(RecordingCorrupt):
        SegmentReader(path)


def test_samples_out_of_range_are_corrupt(tmp_path: Path) -> None:
    path = write_segment(tmp_path, [make_frame(2), make_frame(3)])
    with h5py.File(path, "r+") as file:
        file[f"{GROUP}/pixels"][4] = [0.5, 2.0, 0.5]
    with SegmentReader(path) as reader:
        assert content(reader.read(0)) == content(make_frame(2))
        with pytest.raises(RecordingCorrupt, match="frame 3: a sample is outside"):
            reader.read(1)


def test_a_footprint_that_is_none_is_corrupt(tmp_path: Path) -> None:
    path = write_segment(tmp_path, [make_frame(2), make_frame(3)])
    with h5py.File(path, "r+") as file:
        file[f"{GROUP}/footprints"][4] = 0
    with SegmentReader(path) as reader, pytest.raises(RecordingCorrupt, match="frame 3: a footpr"):
        reader.read(1)


def test_a_recording_from_before_footprints_holds_points(tmp_path: Path) -> None:
    frames = [make_frame(2), make_frame(3)]
    path = write_segment(tmp_path, frames)
    with h5py.File(path, "r+") as file:
        del file[f"{GROUP}/footprints"]
        del file[f"{GROUP}/checksums"]
    with SegmentReader(path) as reader:
        for frame, read in zip(frames, reader, strict=True):
            np.testing.assert_array_equal(read.samples[:, :3], frame.samples[:, :3])
            assert (read.samples[:, 3] == 1).all()


def test_random_damage_is_nothing_but_corrupt(tmp_path: Path) -> None:
    path = write_segment(tmp_path, [keyframe(i) for i in range(20)])
    healthy = path.read_bytes()
    rng = random.Random(0)
    corrupt = 0
    for _ in range(150):
        damaged = bytearray(healthy[: rng.choice([len(healthy), rng.randrange(len(healthy))])])
        for _ in range(rng.choice([1, 5])):
            if damaged:
                damaged[rng.randrange(min(len(damaged), 8000))] ^= rng.randrange(1, 256)
        path.write_bytes(damaged)
        try:
            with SegmentReader(path) as reader:
                list(reader)
        except RecordingCorrupt:
            corrupt += 1
    assert corrupt > 50


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordingError) as failure:
        SegmentReader(tmp_path / "absent.h5")
    assert not isinstance(failure.value, RecordingCorrupt)


def test_segments_are_found(tmp_path: Path) -> None:
    second = write_segment(tmp_path, [make_frame(3)], number=1)
    first = write_segment(tmp_path, [make_frame(1), keyframe(2)], number=0)
    (first.parent / "000002.h5").write_text("nonsense")
    (first.parent / "000003.h5.bad").write_text("nonsense")
    other = open_writer(
        tmp_path, checkpoint_key="pong", session_id="s-2", max_state_dim=1, sentinel=-1.0
    )
    assert [info.path for info in find_segments(tmp_path)] == [first, second]
    other.seal()
    assert [info.checkpoint_key for info in find_segments(tmp_path)] == ["doom", "doom", "pong"]
    (info,) = find_segments(tmp_path, "pong")
    assert (info.session_id, info.number, info.frame_count) == ("s-2", 0, 0)
    info = find_segments(tmp_path, "doom")[0]
    assert (info.frame_count, info.keyframe_count) == (2, 1)
    assert info.size_bytes == first.stat().st_size
    with pytest.raises(RecordingError, match="no legal"):
        find_segments(tmp_path, "../doom")


def test_a_corrupt_segment_is_opened_and_told_once_until_it_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_segment(tmp_path, [make_frame(1)])
    whole = path.read_bytes()
    opened: list[Path] = []
    look = find.segment_info

    def counted(path: Path) -> SegmentInfo:
        opened.append(path)
        return look(path)

    monkeypatch.setattr(find, "segment_info", counted)
    for times, data in enumerate((b"nonsense", b"another nonsense"), 1):
        path.write_bytes(data)
        assert find_segments(tmp_path) == find_segments(tmp_path) == []
        assert len(opened) == times
    path.write_bytes(whole)
    assert len(find_segments(tmp_path)) == 1
    told = [record for record in caplog.records if "left out" in record.message]
    assert [(record.levelname, record.exc_info) for record in told] == [("WARNING", None)] * 2


def test_a_segment_that_cannot_be_read_now_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_segment(tmp_path, [make_frame(1)])

    def too_many(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(h5py, "File", too_many)
        assert find_segments(tmp_path) == []
    assert len(find_segments(tmp_path)) == 1


def test_a_file_without_an_end_is_no_segment(tmp_path: Path) -> None:
    """Whoever opened it would wait for ever."""
    os.mkfifo(tmp_path / "000000.h5")
    for salvage in (False, True):
        with pytest.raises(RecordingCorrupt, match="plain file"):
            SegmentReader(tmp_path / "000000.h5", salvage=salvage)
    assert not is_locked(tmp_path / "000000.h5")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_does_without(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_locks(monkeypatch, number)
    os.close(lock_recordings(tmp_path))
    path = write_segment(tmp_path, [make_frame(1)])
    with being_read(tmp_path, "doom"):
        assert segment_info(path).frame_count == 1
    assert not is_locked(path)


@pytest.mark.parametrize("number", [errno.EIO, errno.EWOULDBLOCK])
def test_a_segment_that_cannot_be_locked_leaves_nothing_behind(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_locks(monkeypatch, number)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(RecordingError, match=r"cannot create .*000000\.h5\.part"):
        open_writer(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not list(tmp_path.rglob("*.part"))


def test_a_path_that_is_not_there_is_not_blamed_for_its_name(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"there is no .*nosuch: name a folder"):
        segment_info(tmp_path / "nosuch")
