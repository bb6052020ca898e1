"""Which model serves which key: swapped while it serves, in memory while it is played."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from reconstructor import checkpoints, models
from reconstructor.checkpoints import follow_checkpoints
from reconstructor.forward import Forward
from reconstructor.inpaint import InpaintReconstructor
from reconstructor.neural import NeuralReconstructor
from sgaps.bus import MemoryBus, Publish
from sgaps.checkpoints import MANIFEST_NAME, POINTER_NAME, WEIGHTS_NAME
from sgaps.errors import BusRefused
from sgaps.messages import CheckpointPublished
from sgaps.metrics.reconstructor import CHECKPOINT_REFUSED, FAILED, WITHOUT_ROOM
from sgaps.model import (
    CheckpointStore,
    load_serving,
    predicted_psnr_db,
)
from sgaps.model.checkpoint import Checkpoint
from sgaps.service import Service
from sgaps.settings import Settings
from toy_models import publish
from toy_reconstructors import frame, neural, settings_of


def test_a_key_has_its_own_model_and_every_other_the_default(tmp_path: Path) -> None:
    own = publish(tmp_path / "own", "doom")
    default = publish(tmp_path / "own", "default", seed=1)
    reconstructor = neural(tmp_path)
    results = reconstructor.reconstruct([frame("doom"), frame("pong")])
    versions = [own.model_version, default.model_version]
    assert [result.model_version for result in results] == versions
    assert reconstructor.serving() == {"doom": versions[0], "default": versions[1]}
    assert results[0].log_error is not None
    assert results[0].predicted_psnr_db == pytest.approx(predicted_psnr_db(results[0].log_error))


def test_tiny_floats_are_zeros_in_whatever_thread_rebuilds(tmp_path: Path) -> None:
    reconstructor = neural(tmp_path)
    torch.set_flush_denormal(False)  # a thread begins as the one that starts it

    def tiny() -> float:
        return float(torch.tensor(1e-40) * 0.5)

    with ThreadPoolExecutor(1) as pool:
        before = pool.submit(tiny).result()
        pool.submit(reconstructor.reconstruct, [frame()]).result()
        assert before > pool.submit(tiny).result() == 0


def test_ones_own_checkpoint_goes_before_the_shipped_one(tmp_path: Path) -> None:
    shipped = publish(tmp_path / "shipped", "default")
    reconstructor = neural(tmp_path)
    assert reconstructor.serving() == {"default": shipped.model_version}
    own = publish(tmp_path / "own", "default", seed=1)
    assert reconstructor.refresh() == 1
    assert reconstructor.serving() == {"default": own.model_version}


def test_a_newer_checkpoint_is_swapped_in_once(tmp_path: Path) -> None:
    first = publish(tmp_path / "own", "doom")
    reconstructor = neural(tmp_path)
    assert reconstructor.refresh() == 0
    second = publish(tmp_path / "own", "doom", seed=1)
    assert reconstructor.serving()["doom"] == first.model_version
    assert reconstructor.refresh() == 1
    assert reconstructor.refresh() == 0
    assert reconstructor.reconstruct([frame()])[0].model_version == second.model_version


@pytest.mark.parametrize("trouble", ["torn", "worse", "lost", "bad pointer", "bad name", "color"])
def test_the_old_model_serves_on_and_the_trouble_is_told_once(
    tmp_path: Path, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "own"
    old = publish(root, "doom")
    reconstructor = neural(tmp_path)
    new = publish(
        root,
        "doom",
        seed=1,
        psnr_db=19.0 if trouble == "worse" else 21.0,
        color_channels=3 if trouble == "color" else 1,
    )
    weights = root / "doom" / new.model_version / WEIGHTS_NAME
    if trouble == "torn":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif trouble == "lost":
        weights.unlink()
    elif trouble == "bad pointer":
        (root / "doom" / "current").write_bytes(b"../../x")
    elif trouble == "bad name":
        publish(root, "doom", seed=0)
        (root / "a b").mkdir()
        (root / "a b" / "current").write_bytes(b"v1")
    swapped = [reconstructor.refresh() for _ in range(3)]
    harmless = trouble == "bad name"
    assert swapped == [int(harmless), 0, 0]
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == (0 if harmless else 1)
    assert set(reconstructor.serving()) == {"default", "doom"}
    expected_hash = old.weights_sha256[:8]
    assert reconstructor.serving()["doom"].endswith(expected_hash)
    assert refused() == {"doom": int(not harmless)}


def refused() -> dict[str, float]:
    """What the metric tells, by key."""
    (family,) = CHECKPOINT_REFUSED.collect()
    return {sample.labels["checkpoint_key"]: sample.value for sample in family.samples}


def test_what_is_refused_at_the_start_is_told_until_it_is_well(tmp_path: Path) -> None:
    """A count of it would stand at 1 when it is first asked for, and look like none for ever."""
    store = CheckpointStore(tmp_path / "own")
    publish(store.root, "pong")
    good = publish(store.root, "doom")
    publish(store.root, "doom", seed=1, psnr_db=19.0)
    reconstructor = neural(tmp_path)
    assert refused() == {"doom": 1, "pong": 0}
    reconstructor.refresh()
    assert refused() == {"doom": 1, "pong": 0}
    store.promote("doom", good.model_version)
    reconstructor.refresh()
    assert refused() == {"doom": 0, "pong": 0}
    (store.root / "doom" / POINTER_NAME).unlink()
    reconstructor.refresh()
    assert refused() == {"pong": 0}


@pytest.mark.parametrize("name", [WEIGHTS_NAME, MANIFEST_NAME])
@pytest.mark.parametrize("trouble", ["half of it", "a bit"])
def test_what_was_copied_by_halves_or_is_mended_is_looked_at_again(
    tmp_path: Path, name: str, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path / "own", "doom")
    reconstructor = neural(tmp_path)
    new = publish(tmp_path / "own", "doom", seed=1)
    path = tmp_path / "own" / "doom" / new.model_version / name
    whole = path.read_bytes()
    half = len(whole) // 2
    path.write_bytes(whole[:half] + (b"" if trouble == "half of it" else b"\0" + whole[half + 1 :]))
    os.utime(path, (1, 1))
    assert [reconstructor.refresh(), reconstructor.refresh()] == [0, 0]
    assert refused() == {"doom": 1}
    assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == 1
    path.write_bytes(whole)
    assert reconstructor.refresh() == 1
    assert reconstructor.serving()["doom"] == new.model_version
    assert refused() == {"doom": 0}


def test_what_is_refused_is_not_loaded_again_while_its_files_stay_as_they_are(
    tmp_path: Path, loads: list[str]
) -> None:
    publish(tmp_path / "own", "doom")
    reconstructor = neural(tmp_path)
    new = publish(tmp_path / "own", "doom", seed=1)
    os.truncate(tmp_path / "own" / "doom" / new.model_version / WEIGHTS_NAME, 1000)
    for _ in range(3):
        assert reconstructor.refresh() == 0
    assert loads == ["doom"]


def test_a_folder_that_cannot_be_listed_hands_nothing_to_the_shipped_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, shipped = tmp_path / "own", publish(tmp_path / "shipped", "default")
    own = publish(root, "default", seed=1)
    reconstructor = neural(tmp_path)
    root.rename(tmp_path / "away")
    root.touch()  # no folder: root could list any
    failed = FAILED._value.get()
    assert reconstructor.refresh() == 0
    assert reconstructor.serving() == {"default": own.model_version}
    assert FAILED._value.get() - failed == 1
    assert f"{root} cannot be listed" in caplog.text
    assert neural(tmp_path).serving() == {"default": shipped.model_version}
    root.unlink()
    (tmp_path / "away").rename(root)
    newer = publish(root, "default", seed=2)
    assert reconstructor.refresh() == 1
    assert reconstructor.serving() == {"default": newer.model_version}
    assert refused() == {"default": 0}


def test_a_start_without_any_general_checkpoint_names_the_cure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path / "own", "doom")
    neural(tmp_path)
    (told,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert all(
        word in told for word in ("data.checkpoints_dir", str(tmp_path / "own"), "untrained")
    )
    publish(tmp_path / "shipped", "default")
    caplog.clear()
    neural(tmp_path)
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("trouble", ["descriptors", "not there yet", "memory"])
def test_what_only_could_not_be_had_is_tried_at_the_next_look(
    tmp_path: Path,
    trouble: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    publish(tmp_path / "own", "doom")
    reconstructor = neural(tmp_path)
    new = publish(tmp_path / "own", "doom", seed=1)
    other = publish(tmp_path / "own", "pong", seed=2)
    folder = tmp_path / "own" / "doom" / new.model_version
    with monkeypatch.context() as patched:
        if trouble == "descriptors":
            patched.setattr(os, "fdopen", no_descriptor_for(folder / WEIGHTS_NAME))
        elif trouble == "memory":
            patched.setattr(models, "Forward", no_room_once())
        else:
            folder.rename(tmp_path / "on its way")
        assert [reconstructor.refresh(), reconstructor.refresh()] == [1, int(trouble == "memory")]
        assert reconstructor.serving()["pong"] == other.model_version
        assert refused() == {"doom": int(trouble != "memory"), "pong": 0}
    if trouble == "not there yet":
        (tmp_path / "on its way").rename(folder)
    assert reconstructor.refresh() == int(trouble != "memory")
    assert reconstructor.serving()["doom"] == new.model_version
    assert refused() == {"doom": 0, "pong": 0}
    assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == 1


def no_descriptor_for(path: Path) -> Callable[..., Any]:
    fdopen = os.fdopen

    def opened(descriptor: int, *arguments: Any, **options: Any) -> Any:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == path:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return fdopen(descriptor, *arguments, **options)

    return opened


def no_room_once() -> Callable[..., Forward]:
    asked: list[Any] = []

    def forward(model: Any, device: torch.device) -> Forward:
        asked.append(model)
        if len(asked) == 1:
            raise MemoryError
        return Forward(model, device)

    return forward


def test_a_device_without_room_is_no_reason_to_give_a_checkpoint_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "own", "doom")
    reconstructor = neural(tmp_path)
    new = publish(tmp_path / "own", "doom", seed=1)
    with monkeypatch.context() as patched:
        patched.setattr(torch.nn.Module, "to", out_of_memory)
        assert reconstructor.refresh() == 0
    assert reconstructor.refresh() == 1
    assert reconstructor.serving()["doom"] == new.model_version


def out_of_memory(*_: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_a_folder_in_place_of_a_file_costs_no_descriptor(tmp_path: Path) -> None:
    publish(tmp_path / "own", "doom")
    (tmp_path / "own" / "pong" / "current").mkdir(parents=True)
    reconstructor = neural(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        reconstructor.refresh()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("own_seed", [0, 1])  # 0: a copy of the shipped one
def test_a_torn_checkpoint_of_ones_own_does_not_hide_the_shipped_one(
    tmp_path: Path, own_seed: int
) -> None:
    shipped = publish(tmp_path / "shipped", "default")
    own = publish(tmp_path / "own", "default", seed=own_seed)
    weights = tmp_path / "own" / "default" / own.model_version / WEIGHTS_NAME
    weights.write_bytes(weights.read_bytes()[:1000])
    reconstructor = neural(tmp_path)
    assert reconstructor.serving() == {"default": shipped.model_version}
    reconstructor.refresh()
    assert refused() == {"default": 1}  # though the shipped one serves, and may be the same
    _, for_training, _ = load_serving(settings_of(tmp_path).data, "doom")
    assert for_training == shipped
    newer = publish(tmp_path / "own", "default", seed=2)
    assert reconstructor.refresh() == 1
    assert reconstructor.serving() == {"default": newer.model_version}
    assert refused() == {"default": 0}


def test_a_checkpoint_for_color_does_not_hide_the_general_one(tmp_path: Path) -> None:
    shipped = publish(tmp_path / "shipped", "default")
    publish(tmp_path / "own", "doom", color_channels=3)
    assert neural(tmp_path).serving() == {"default": shipped.model_version}
    _, for_training, _ = load_serving(settings_of(tmp_path).data, "doom")
    assert for_training == shipped


async def test_checkpoints_are_looked_at_again_whatever_went_wrong(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    bus, stop, looks = MemoryBus(), asyncio.Event(), asyncio.Queue[int]()

    class OutOfMemory(InpaintReconstructor):
        def refresh(self) -> int:
            loop.call_soon_threadsafe(looks.put_nowait, 1)
            raise RuntimeError("CUDA out of memory")

    loop = asyncio.get_running_loop()
    service = Service(name="reconstructor", settings=settings, bus=bus, stop=stop)
    full = OutOfMemory("telea", radius_px=3, grid_stride=8, frames_at_once=1)
    before = FAILED._value.get()
    following = asyncio.create_task(follow_checkpoints(service, full))
    published = CheckpointPublished(checkpoint_key="doom", model_version="v1", val_psnr_db=30.0)
    for _ in range(2):
        await bus.write(Publish(published))
        await asyncio.wait_for(looks.get(), 10)
    stop.set()
    await asyncio.wait_for(following, 10)
    assert "CUDA out of memory" in caplog.text
    assert FAILED._value.get() - before >= 2


async def test_checkpoints_are_looked_at_though_announcements_cannot_be_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checkpoints, "LOOK_AGAIN_SECS", 0.02)
    monkeypatch.setattr(checkpoints, "RETRY_SECS", 0.01)
    looks = asyncio.Queue[int]()

    class Refusing(MemoryBus):
        async def tail(self, *arguments: Any, **options: Any) -> Any:
            raise BusRefused("no right to read sgaps:checkpoints")

    class Looking(InpaintReconstructor):
        def refresh(self) -> int:
            loop.call_soon_threadsafe(looks.put_nowait, 1)
            return 0

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    service = Service(name="reconstructor", settings=settings, bus=Refusing(), stop=stop)
    looking = Looking("telea", radius_px=3, grid_stride=8, frames_at_once=1)
    following = asyncio.create_task(follow_checkpoints(service, looking))
    for _ in range(3):
        await asyncio.wait_for(looks.get(), 10)
    stop.set()
    await asyncio.wait_for(following, 10)
    assert caplog.messages == ["announcements of checkpoints: no right to read sgaps:checkpoints"]


def test_frames_flow_while_models_are_swapped(tmp_path: Path) -> None:
    versions = {publish(tmp_path / "own", "doom").model_version}
    reconstructor = neural(tmp_path)
    done = threading.Event()

    def swap() -> None:
        for seed in range(1, 8):
            versions.add(publish(tmp_path / "own", "doom", seed=seed).model_version)
            reconstructor.refresh()
        done.set()

    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    while not done.is_set():
        seen |= {result.model_version for result in reconstructor.reconstruct([frame()] * 2)}
    thread.join()
    seen.add(reconstructor.reconstruct([frame()])[0].model_version)
    assert seen <= versions
    assert len(seen) > 1


def versions_of(reconstructor: NeuralReconstructor, *keys: str) -> list[str]:
    """What serves a frame of each key, one frame after the other."""
    return [reconstructor.reconstruct([frame(key)])[0].model_version for key in keys]


def test_what_nobody_plays_makes_room_and_what_is_played_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {
        key: publish(tmp_path / "own", key, seed=seed).model_version
        for seed, key in enumerate(["default", "doom", "pong", "quake"])
    }
    reconstructor = neural(tmp_path, "reconstructor.max_models=2")
    assert reconstructor.serving() == own  # whether they are in memory or not
    turned_away = WITHOUT_ROOM._value.get()
    assert versions_of(reconstructor, "pong", "quake", "doom") == [
        own["pong"],
        own["quake"],
        own["default"],
    ]
    reconstructor.reconstruct([frame("doom"), frame("doom", seed=1)])
    assert reconstructor.serving() == own  # what is in force, not what found room here
    assert WITHOUT_ROOM._value.get() - turned_away == 3
    newer = publish(tmp_path / "own", "quake", seed=9).model_version
    assert reconstructor.refresh() == 1
    assert versions_of(reconstructor, "quake", "pong") == [newer, own["pong"]]
    monkeypatch.setattr(models, "PLAYED_SECS", 0.0)
    assert versions_of(reconstructor, "doom", "pong") == [own["doom"], own["pong"]]
    monkeypatch.setattr(models, "PLAYED_SECS", 60.0)
    assert versions_of(reconstructor, "quake") == [own["default"]]  # it had to go
    assert WITHOUT_ROOM._value.get() - turned_away == 4


def test_a_look_beside_a_first_frame_takes_no_room_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doom = publish(tmp_path / "own", "doom").model_version
    reconstructor = neural(tmp_path, "reconstructor.max_models=1")
    publish(tmp_path / "own", "pong", seed=1)
    load = CheckpointStore.load

    def beside_a_look(store: CheckpointStore, key: str, version: str) -> Checkpoint:
        if key == "doom":
            assert reconstructor.refresh() == 1
            assert reconstructor.is_at_hand("pong")
        return load(store, key, version)

    monkeypatch.setattr(CheckpointStore, "load", beside_a_look)
    assert versions_of(reconstructor, "doom") == [doom]
    assert reconstructor.is_at_hand("doom")
    assert not reconstructor.is_at_hand("pong")  # which nobody played


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of which a checkpoint is loaded from now on, in order."""
    keys: list[str] = []
    load = CheckpointStore.load

    def counted(store: CheckpointStore, key: str, version: str) -> Checkpoint:
        keys.append(key)
        return load(store, key, version)

    monkeypatch.setattr(CheckpointStore, "load", counted)
    return keys


def test_a_start_loads_nothing_but_the_general_one(tmp_path: Path, loads: list[str]) -> None:
    """A thousand keys would take minutes; a probe would have the replica killed before."""
    own = {
        key: publish(tmp_path / "own", key, seed=seed).model_version
        for seed, key in enumerate(["default", "doom", "pong"])
    }
    reconstructor = neural(tmp_path)
    assert loads == ["default"]
    assert reconstructor.serving() == own
    assert versions_of(reconstructor, "pong", "pong") == [own["pong"]] * 2
    assert loads == ["default", "pong"]
    at_hand = {key: reconstructor.is_at_hand(key) for key in ["default", "doom", "pong", "another"]}
    assert at_hand == {"default": True, "doom": False, "pong": True, "another": True}
    newer = publish(tmp_path / "own", "doom", seed=3).model_version
    assert reconstructor.refresh() == 1  # checked at once: the old one would serve on
    assert versions_of(reconstructor, "doom") == [newer]
    assert loads == ["default", "pong", "doom"]


def test_what_was_damaged_since_it_was_let_go_is_served_by_the_general_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(models, "PLAYED_SECS", 0.0)
    root = tmp_path / "own"
    general = publish(root, "default").model_version
    doom = publish(root, "doom", seed=1).model_version
    pong = publish(root, "pong", seed=2).model_version
    reconstructor = neural(tmp_path, "reconstructor.max_models=1")
    assert versions_of(reconstructor, "doom", "pong") == [doom, pong]
    weights = root / "doom" / doom / WEIGHTS_NAME
    weights.write_bytes(weights.read_bytes()[:1000])
    assert versions_of(reconstructor, "doom", "pong") == [general, pong]
    assert set(reconstructor.serving()) == {"default", "pong"}
    assert reconstructor.refresh() == 0
    assert refused() == {"default": 0, "doom": 1, "pong": 0}
    assert "doom is served by the general one: " in caplog.text
    newer = publish(root, "doom", seed=3).model_version
    assert reconstructor.refresh() == 1
    assert versions_of(reconstructor, "doom", "pong") == [newer, pong]


def test_a_model_that_looks_back_farther_than_the_broker_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(models, "PLAYED_SECS", 0.0)
    for key in ("doom", "pong"):
        publish(tmp_path / "own", key)
    short = ("model.history_frames=1", "server.history_frames=1", "reconstructor.max_models=1")
    reconstructor = neural(tmp_path, *short)
    for key in ("doom", "pong", "doom"):
        reconstructor.reconstruct([frame(key)])
    told = [line for line in caplog.messages if "server.history_frames=2" in line]
    assert len(told) == 2
    caplog.clear()
    neural(tmp_path).reconstruct([frame("doom")])
    assert "history_frames" not in caplog.text


def test_a_deleted_checkpoint_serves_no_more_in_memory_or_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = tmp_path / "own"
    general = publish(own, "default").model_version
    versions = {key: publish(own, key, seed=1).model_version for key in ("doom", "pong")}
    shipped = publish(tmp_path / "shipped", "default", seed=2).model_version
    reconstructor = neural(tmp_path)
    assert versions_of(reconstructor, "doom") == [versions["doom"]]
    (own / "doom" / POINTER_NAME).unlink()
    (own / "pong" / POINTER_NAME).unlink()
    assert reconstructor.refresh() == 0
    assert versions_of(reconstructor, "doom", "pong") == [general, general]
    assert reconstructor.serving() == {"default": general}
    assert [m for m in caplog.messages if "no checkpoint any more" in m] == [
        f"{key} has no checkpoint any more: the general one serves it" for key in ("doom", "pong")
    ]
    quake = publish(own, "quake", seed=3).model_version
    (own / "default" / POINTER_NAME).unlink()
    assert reconstructor.refresh() == 2
    assert reconstructor.serving() == {"default": shipped, "quake": quake}
    publish(tmp_path / "shipped", "tetris", seed=4)
    (tmp_path / "shipped" / "default" / POINTER_NAME).unlink()
    assert reconstructor.refresh() == 1
    assert reconstructor.serving()["default"] == shipped  # there is nothing in its place


def test_a_folder_that_is_empty_all_of_a_sudden_was_not_emptied_by_hand(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path / "shipped", "default")
    publish(tmp_path / "own", "doom", seed=1)
    reconstructor = neural(tmp_path)
    before, failed = reconstructor.serving(), FAILED._value.get()
    mounted = (tmp_path / "own").rename(tmp_path / "elsewhere")
    for there in (None, tmp_path / "own"):
        if there:
            there.mkdir()
        assert reconstructor.refresh() == 0
        assert reconstructor.serving() == before
    assert FAILED._value.get() - failed == 2
    assert f"{tmp_path / 'own'} is empty by now: mount it again" in caplog.text
    (tmp_path / "own").rmdir()
    mounted.rename(tmp_path / "own")
    (tmp_path / "own" / "doom" / POINTER_NAME).unlink()
    publish(tmp_path / "own", "pong", seed=2)
    assert reconstructor.refresh() == 1
    assert set(reconstructor.serving()) == {"default", "pong"}


def test_a_copy_of_what_serves_takes_its_place_where_that_is_deleted(tmp_path: Path) -> None:
    publish(tmp_path / "shipped", "default")
    version = publish(tmp_path / "shipped", "doom", seed=1).model_version
    shutil.copytree(tmp_path / "shipped" / "doom", tmp_path / "own" / "doom")
    publish(tmp_path / "own", "pong", seed=2)
    reconstructor = neural(tmp_path)
    assert reconstructor.refresh() == 0
    shutil.rmtree(tmp_path / "own" / "doom")
    assert reconstructor.refresh() == 1
    assert versions_of(reconstructor, "doom") == [version]
