"""Recovery: what was acknowledged survives kill -9, once; nothing is deleted that was not read."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import h5py
import numpy as np
import pytest

from sgaps.errors import RecordingError
from sgaps.recording import RecordedFrame, SegmentReader, recover_parts
from sgaps.recording.recovery import recover_part, salvage
from sgaps.sampling.footprints import as_points
from toy_segments import content, open_writer, write_segment

# A fork of a process that has imported everything: twenty starts cost little.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["pytest", "sgaps.recording"])


def make_frame(frame_id: int) -> RecordedFrame:
    picture = b"%d" % frame_id * 3000 if frame_id % 5 == 0 else b""
    return RecordedFrame(
        frame_id=frame_id,
        coordinate_set_id=1,
        width=160,
        height=120,
        samples=as_points(np.full((frame_id % 600, 3), frame_id % 1000 / 1000, np.float32)),
        state=np.full(frame_id % 9, frame_id, np.float32),
        client_time_secs=frame_id / 10,
        received_at_secs=frame_id / 5,
        keyframe_encoding="png" if picture else "",
        keyframe=picture,
    )


def leave_part(root: Path, frame_count: int) -> Path:
    """What a killed writer leaves: synced frames in a part."""
    writer = open_writer(root, max_state_dim=8)
    writer.append([make_frame(i) for i in range(frame_count)])
    writer.sync()
    writer.abandon()
    return writer.part_path


def seal(root: Path, frame_count: int) -> Path:
    return write_segment(root, [make_frame(i) for i in range(frame_count)], max_state_dim=8)


def files(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "doom" / "s-1").iterdir())


def frame_ids(path: Path) -> list[int]:
    """The ids of a sealed segment, each frame compared with what was written."""
    with SegmentReader(path) as reader:
        for frame in reader:
            assert content(frame) == content(make_frame(frame.frame_id))
        return [frame.frame_id for frame in reader]


def write_until_killed(root: Path, acknowledge: Connection) -> None:
    writer = open_writer(root, max_state_dim=8)
    frame_id = 0
    while True:
        batch = [make_frame(frame_id + i) for i in range(random.randrange(1, 12))]
        frame_id += len(batch)
        writer.append(batch)
        if random.random() < 0.8:
            writer.sync()
            acknowledge.send(frame_id)


def recover_until_killed(root: Path, acknowledge: Connection) -> None:
    acknowledge.send(0)
    recover_parts(root)


def kill_at_work(work: Callable[[Path, Connection], None], root: Path, *, after_secs: float) -> int:
    """Kill -9 a process so long after its first acknowledgement; the last one it sent."""
    receiver, sender = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=work, args=(root, sender))
    process.start()
    sender.close()
    last = int(receiver.recv())
    time.sleep(after_secs)
    process.kill()
    process.join()
    # The end of the stream, or a number cut off in the middle.
    with contextlib.suppress(EOFError, OSError):
        while True:
            last = receiver.recv()
    return last


@pytest.mark.parametrize("run", range(20))
def test_acknowledged_frames_survive_kill_9_once(tmp_path: Path, run: int) -> None:
    rng = random.Random(run)
    acknowledged = kill_at_work(write_until_killed, tmp_path, after_secs=rng.uniform(0, 0.1))
    kill_at_work(recover_until_killed, tmp_path, after_secs=rng.uniform(0, 0.03))
    recover_parts(tmp_path)
    assert files(tmp_path) == ["000000.h5"]
    recovered = frame_ids(tmp_path / "doom" / "s-1" / "000000.h5")
    assert recovered == list(range(len(recovered)))
    assert len(recovered) >= acknowledged > 0


def test_a_part_becomes_a_segment(tmp_path: Path) -> None:
    leave_part(tmp_path, 40)
    (recovered,) = recover_parts(tmp_path)
    assert recovered.info is not None
    assert (recovered.info.frame_count, recovered.info.keyframe_count) == (40, 8)
    assert frame_ids(recovered.path) == list(range(40))
    assert files(tmp_path) == ["000000.h5"]
    assert recover_parts(tmp_path) == []


def test_a_copy_cut_off_by_a_kill_is_made_again(tmp_path: Path) -> None:
    part = leave_part(tmp_path, 5)
    part.with_suffix(".recovering").write_bytes(part.read_bytes()[:999])
    (recovered,) = recover_parts(tmp_path)
    assert frame_ids(recovered.path) == list(range(5))
    assert files(tmp_path) == ["000000.h5"]


def test_a_part_whose_segment_is_there_goes(tmp_path: Path) -> None:
    part = leave_part(tmp_path, 5)
    kept = shutil.copy(part, tmp_path / "kept")
    (first,) = recover_parts(tmp_path)
    shutil.copy(kept, part)
    (second,) = recover_parts(tmp_path)
    assert second == first
    assert files(tmp_path) == ["000000.h5"]


def test_the_part_of_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, max_state_dim=8)
    writer.append([make_frame(1)])
    writer.sync()
    assert recover_parts(tmp_path) == []
    writer.append([make_frame(2)])
    assert frame_ids(writer.seal()) == [1, 2]


def test_an_unreadable_part_is_moved_aside(tmp_path: Path) -> None:
    part = leave_part(tmp_path, 1)
    part.write_bytes(b"nonsense" * 1000)
    (recovered,) = recover_parts(tmp_path)
    assert (recovered.info, recovered.path.name) == (None, "000000.h5.bad")
    assert "no valid segment" in recovered.reason
    assert recovered.path.read_bytes() == b"nonsense" * 1000
    assert files(tmp_path) == ["000000.h5.bad"]


def test_a_part_that_no_frame_was_written_to_goes(tmp_path: Path) -> None:
    leave_part(tmp_path, 0).with_name("000001.h5.part").touch()
    recovered = recover_parts(tmp_path)
    assert {outcome.reason for outcome in recovered} == {"no frame was written to it"}
    assert files(tmp_path) == []


@pytest.mark.parametrize("written_bytes", [0, 48, None])
def test_a_part_whose_writer_died_while_it_made_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written_bytes: int | None
) -> None:
    """HDF5 opens none of these files: it has noted that somebody is writing to them."""
    made: list[bytes] = []

    def killed_before(file: h5py.File, _: bool) -> None:
        file.flush()
        made.append(Path(file.filename).read_bytes()[:written_bytes])

    monkeypatch.setattr(h5py.File, "swmr_mode", property(fset=killed_before))
    writer = open_writer(tmp_path, max_state_dim=8)
    writer.abandon()
    writer.part_path.write_bytes(made[0])
    assert recover_parts(tmp_path)[0].reason == "no frame was written to it"
    assert files(tmp_path) == []
    writer.part_path.write_bytes(made[0].ljust(48, b"x") + bytes(20_000))  # it has more than that
    recover_parts(tmp_path)
    assert files(tmp_path) == ["000000.h5.bad"]


def test_frames_that_cannot_be_read_are_lost_alone(tmp_path: Path) -> None:
    part = seal(tmp_path, 40).rename(tmp_path / "doom" / "s-1" / "000000.h5.part")
    with h5py.File(part, "r+") as file:
        file["/doom/s-1/frames/pixels"][3] = 2.0  # of frame 3, which has three samples
        file["/doom/s-1/frames/index"][7, "pixels_offset"] = 10**6
    kept = shutil.copy(part, tmp_path / "kept")
    (recovered,) = recover_parts(tmp_path)
    left = [number for number in range(40) if number not in {3, 7}]
    assert frame_ids(recovered.path) == left
    # Killed before the part went: it has nothing that the segment lacks.
    shutil.copy(kept, part)
    recover_parts(tmp_path)
    assert files(tmp_path) == ["000000.h5"]


@pytest.mark.parametrize("is_readable", [True, False])
def test_a_part_beside_a_damaged_segment_of_its_number_is_sealed_beside_it(
    tmp_path: Path, is_readable: bool
) -> None:
    part = leave_part(tmp_path, 9)
    sealed = part.with_suffix("")
    seal(tmp_path / "of-fewer", 4).rename(sealed)
    if not is_readable:
        sealed.write_bytes(b"not a recording")
    kept = shutil.copy(part, tmp_path / "kept")
    (recovered,) = recover_parts(tmp_path)
    assert recovered.path.name == "000001.h5"
    assert frame_ids(recovered.path) == list(range(4 if is_readable else 0, 9))
    # Killed before the part went: there is one copy of each frame.
    shutil.copy(kept, part)
    (again,) = recover_parts(tmp_path)
    assert (again.info is not None, again.reason) == (True, "")
    assert files(tmp_path) == ["000000.h5", "000001.h5"]


def test_a_part_without_a_readable_frame_stays_aside_whatever_is_beside(tmp_path: Path) -> None:
    part = seal(tmp_path, 1).rename(tmp_path / "doom" / "s-1" / "000000.h5.part")
    with h5py.File(part, "r+") as file:
        file["/doom/s-1/frames/index"][0, "pixels_offset"] = 10**6
    part.with_name("000000.h5").write_bytes(b"not a recording")
    (aside,) = recover_parts(tmp_path)
    assert (aside.path.name, aside.info) == ("000000.h5.bad", None)
    assert files(tmp_path) == ["000000.h5", "000000.h5.bad"]


def test_what_cannot_be_recovered_now_does_not_stop_the_others(tmp_path: Path) -> None:
    part = leave_part(tmp_path, 5)
    refused = part.with_name("000001.h5.part")
    refused.mkdir()  # no program may write to it, not even root's
    recovered, left = recover_parts(tmp_path)
    assert frame_ids(recovered.path) == list(range(5))
    assert (left.path, left.info) == (refused, None)
    assert "directory" in left.reason
    with pytest.raises(RecordingError):
        recover_part(refused)


def test_what_is_readable_of_a_damaged_segment_is_salvaged(tmp_path: Path) -> None:
    path = seal(tmp_path, 40)
    with h5py.File(path, "r+") as file:
        file["/doom/s-1/frames/index"][7, "pixels_offset"] = 10**6
    outcome = salvage(
        path, take=lambda reader, position: reader.read(position) if position > 1 else None
    )
    assert (outcome.path.name, outcome.reason) == ("000000.h5.bad", "")
    assert files(tmp_path) == ["000000.h5.bad", "000001.h5"]
    left = [number for number in range(2, 40) if number != 7]
    assert frame_ids(path.with_name("000001.h5")) == left


PAGE_BYTES = 4096


def test_a_frame_whose_samples_a_power_cut_lost_is_left_out(tmp_path: Path) -> None:
    """Its index was there before them: it was recovered with zeros, and never taken again."""
    part = leave_part(tmp_path, 40)
    samples = np.ascontiguousarray(make_frame(39).samples[:, :3]).tobytes()
    data = part.read_bytes()
    assert data.count(samples) == 1
    part.write_bytes(data.replace(samples, bytes(len(samples))))
    (recovered,) = recover_parts(tmp_path)
    assert frame_ids(recovered.path) == list(range(39))


@pytest.mark.parametrize("acknowledged", [64, 256])
def test_a_page_that_a_power_cut_lost_hides_no_acknowledged_frame(
    tmp_path: Path, acknowledged: int
) -> None:
    """Where metadata grows, torn metadata hid the whole part."""
    writer = open_writer(tmp_path, max_state_dim=8)
    writer.append([make_frame(i) for i in range(acknowledged)])
    writer.sync()
    before = writer.part_path.read_bytes()
    writer.append([make_frame(acknowledged)])
    writer.flush()
    after = writer.part_path.read_bytes()
    writer.abandon()
    before = before.ljust(len(after), b"\0")
    pages = [slice(at, at + PAGE_BYTES) for at in range(0, len(after), PAGE_BYTES)]
    new = [page for page in pages if before[page] != after[page]]
    assert len(new) > 5
    for page in new:
        torn = after[: page.start] + before[page] + after[page.stop :]
        shutil.rmtree(tmp_path)
        writer.part_path.parent.mkdir(parents=True)
        writer.part_path.write_bytes(torn)
        (recovered,) = recover_parts(tmp_path)
        assert set(frame_ids(recovered.path)) >= set(range(acknowledged))


def test_a_file_that_a_power_cut_left_shorter_than_it_says_has_what_is_there(
    tmp_path: Path,
) -> None:
    writer = open_writer(tmp_path, max_state_dim=8)
    writer.append([make_frame(i) for i in range(9)])
    writer.sync()
    synced_bytes = writer.size_bytes
    writer.append([replace(make_frame(9), keyframe=bytes(10**6), keyframe_encoding="png")])
    writer.sync()
    writer.abandon()
    os.truncate(writer.part_path, synced_bytes)
    (recovered,) = recover_parts(tmp_path)
    assert frame_ids(recovered.path) == list(range(9))


def test_what_is_aside_is_not_replaced(tmp_path: Path) -> None:
    for data in (b"one", b"two"):
        part = leave_part(tmp_path, 1)
        part.write_bytes(data)
        recover_parts(tmp_path)
    assert files(tmp_path) == ["000000.h5.bad", "000000.h5.bad.1"]
    assert (tmp_path / "doom" / "s-1" / "000000.h5.bad").read_bytes() == b"one"


def test_torn_metadata_does_not_hang_recovery(tmp_path: Path) -> None:
    part = leave_part(tmp_path, 5)
    torn = bytearray(part.read_bytes())
    torn[torn.index(b"OHDR") + 20] ^= 0xFF  # an object header: its checksum is wrong now
    part.write_bytes(torn)
    process = PROCESSES.Process(target=recover_parts, args=(tmp_path,))
    process.start()
    process.join(10)
    process.kill()
    assert process.exitcode == 0
    assert files(tmp_path) == ["000000.h5.bad"]


def test_a_part_that_is_no_file_does_not_hang_recovery(tmp_path: Path) -> None:
    fifo = leave_part(tmp_path, 5).with_name("000001.h5.part")
    os.mkfifo(fifo)
    process = PROCESSES.Process(target=recover_parts, args=(tmp_path,))
    process.start()
    process.join(10)
    process.kill()
    assert process.exitcode == 0
    assert files(tmp_path) == ["000000.h5", "000001.h5.part"]
    (left,) = recover_parts(tmp_path)
    assert (left.path, left.info, left.reason) == (fifo, None, f"{fifo} is no regular file")
