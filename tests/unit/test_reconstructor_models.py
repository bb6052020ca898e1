"""Which model serves which key: swapped while it serves, in memory while it is played."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
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
from sgaps.bus import MemoryBus, Publish
from sgaps.checkpoints import MANIFEST_NAME, POINTER_NAME, WEIGHTS_NAME
from sgaps.errors import BusRefused
from sgaps.messages import CheckpointPublished
from sgaps.metrics.reconstructor import FAILED
from sgaps.model import (
    CheckpointStore,
    load_serving,
    predicted_psnr_db,
)
from sgaps.service import Service
from sgaps.settings import Settings
from toy_models import publish
from toy_reconstructors import frame, neural, refused, settings_of


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
