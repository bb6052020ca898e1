"""The reconstructor's methods: which model serves which key, and what comes back."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reconstructor import models
from reconstructor.build import build_reconstructor
from reconstructor.checkpoints import follow_checkpoints
from reconstructor.forward import Forward, batch_size, columns, in_bfloat16
from reconstructor.frame import FrameInput, Reconstruction
from reconstructor.inpaint import InpaintReconstructor
from reconstructor.neural import NeuralReconstructor
from sgaps.bus import MemoryBus, Publish
from sgaps.checkpoints import POINTER_NAME, UNTRAINED, WEIGHTS_NAME
from sgaps.messages import CheckpointPublished
from sgaps.metrics.reconstructor import CHECKPOINT_REFUSED, FAILED, WITHOUT_ROOM
from sgaps.model import (
    CheckpointStore,
    ModelInput,
    build_model,
    collate,
    load_serving,
    predicted_psnr_db,
    stores_of,
)
from sgaps.model.checkpoint import Checkpoint
from sgaps.service import Service
from sgaps.settings import Settings, load_settings
from unit.test_checkpoints import publish
from unit.test_model import picture, samples_of

WIDTH, HEIGHT = 36, 28


def settings_of(root: Path, *overrides: str) -> Settings:
    return load_settings(
        [
            f"data.checkpoints_dir={root / 'own'}",
            f"data.shipped_dir={root / 'shipped'}",
            *("model.embed_dim=24", "model.num_heads=2", "model.ffn_dim=32"),
            *("model.refine_channels=8", "model.coarse_channels=[8]"),
            *overrides,
        ],
        environment={},
    )


def neural(root: Path, *overrides: str) -> NeuralReconstructor:
    stores = (CheckpointStore(root / "own"), CheckpointStore(root / "shipped"))
    return NeuralReconstructor(stores, settings_of(root, *overrides))


def frame(
    key: str = "doom",
    *,
    seed: int = 0,
    count: int = 40,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    history: bool = False,
) -> FrameInput:
    samples = samples_of(picture(seed, *size), count)
    return FrameInput(
        checkpoint_key=key,
        samples=samples,
        state=np.array([3.0, -999.0, np.nan], np.float32),
        width=size[0],
        height=size[1],
        history=((1, samples_of(picture(seed + 1, *size), count)),) if history else (),
    )


def at_samples(image: NDArray[np.uint8], frame: FrameInput) -> NDArray[np.uint8]:
    x = (frame.samples[:, 0] * frame.width).astype(int)
    y = (frame.samples[:, 1] * frame.height).astype(int)
    return np.asarray(image[y, x], np.uint8)


def assert_same(left: Reconstruction, right: Reconstruction) -> None:
    assert left.model_version == right.model_version
    np.testing.assert_allclose(left.image.astype(int), right.image.astype(int), atol=1)
    assert left.entropy is not None
    assert right.entropy is not None
    np.testing.assert_allclose(left.entropy, right.entropy, atol=1e-5)


def test_without_a_checkpoint_the_prior_serves_and_claims_nothing(tmp_path: Path) -> None:
    reconstructor = neural(tmp_path)
    (result,) = reconstructor.reconstruct([frame()])
    assert reconstructor.serving() == {"default": UNTRAINED}
    assert result.model_version == UNTRAINED
    assert result.log_error is None
    assert result.predicted_psnr_db is None
    assert result.entropy is not None
    assert result.entropy.shape == result.grid == (4, 5)
    sent = np.round(frame().samples[:, 2] * 255).astype(np.uint8)
    np.testing.assert_array_equal(at_samples(result.image, frame()), sent)


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


def test_entropy_is_computed_only_where_it_is_used(tmp_path: Path) -> None:
    publish(tmp_path / "own", "doom")
    by_error = ["importance=learned"]
    trained, prior = neural(tmp_path, *by_error).reconstruct([frame("doom"), frame("pong")])
    assert trained.entropy is None
    assert trained.log_error is not None
    assert prior.entropy is not None  # nothing else tells where to look
    assert prior.log_error is None
    (asked,) = neural(tmp_path).reconstruct([frame("doom")])
    assert asked.entropy is not None


def test_ones_own_checkpoint_goes_before_the_shipped_one(tmp_path: Path) -> None:
    shipped = publish(tmp_path / "shipped", "default")
    reconstructor = neural(tmp_path)
    assert reconstructor.serving() == {"default": shipped.model_version}
    own = publish(tmp_path / "own", "default", seed=1)
    assert reconstructor.refresh() == 1
    assert reconstructor.serving() == {"default": own.model_version}


def test_a_mixed_batch_comes_back_in_order(tmp_path: Path) -> None:
    publish(tmp_path / "own", "doom")
    reconstructor = neural(tmp_path)
    frames = [
        frame("doom", seed=1),
        frame("pong", seed=2, size=(20, 30), count=9),
        frame("doom", seed=3, count=17, history=True),
        frame("doom", seed=4, size=(20, 30), count=1),
        frame("doom", seed=5, count=25),
    ]
    together = reconstructor.reconstruct(frames)
    for one, result in zip(frames, together, strict=True):
        assert result.image.shape == (one.height, one.width)
        assert_same(result, reconstructor.reconstruct([one])[0])
    assert reconstructor.reconstruct([]) == []


def test_a_frame_without_samples_is_gray(tmp_path: Path) -> None:
    empty = FrameInput(
        checkpoint_key="doom",
        samples=np.empty((0, 4), np.float32),
        state=np.empty(0, np.float32),
        width=WIDTH,
        height=HEIGHT,
        history=(),
    )
    (result,) = neural(tmp_path).reconstruct([empty])
    assert set(np.unique(result.image).tolist()) <= {127, 128}
    assert result.entropy is not None
    assert np.isfinite(result.entropy).all()


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


@pytest.mark.parametrize(
    ("steps", "ages"),
    [((1, 2), [1, 2]), ((3, 10**6), [3, 17]), ((10**6, 2 * 10**6), [16, 17]), ((), [])],
)
def test_frame_ids_that_jump_make_old_samples_only_old(
    steps: tuple[int, ...], ages: list[int]
) -> None:
    """A client may number its frames by a clock; a model was trained on neighbours."""
    now = samples_of(picture(0, WIDTH, HEIGHT), 5)
    inputs = collate(
        [(now, tuple((step, now[:1]) for step in steps), np.empty(0, np.float32))],
        width=WIDTH,
        height=HEIGHT,
        attended_frames=1,
        max_state_dim=1,
        sentinel=-999.0,
    )
    assert inputs.age[0].tolist() == [0] * 5 + ages


def test_a_checkpoint_of_another_state_length_serves(tmp_path: Path) -> None:
    manifest = publish(tmp_path / "own", "doom")
    settings = settings_of(tmp_path)
    assert manifest.model.max_state_dim != settings.max_state_dim
    (result,) = neural(tmp_path).reconstruct([frame()])
    assert result.model_version == manifest.model_version


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
    assert WITHOUT_ROOM._value.get() - turned_away == 1
    newer = publish(tmp_path / "own", "quake", seed=9).model_version
    assert reconstructor.refresh() == 1
    assert versions_of(reconstructor, "quake", "pong") == [newer, own["pong"]]
    monkeypatch.setattr(models, "PLAYED_SECS", 0.0)
    assert versions_of(reconstructor, "doom", "pong") == [own["doom"], own["pong"]]
    monkeypatch.setattr(models, "PLAYED_SECS", 60.0)
    assert versions_of(reconstructor, "quake") == [own["default"]]  # it had to go
    assert WITHOUT_ROOM._value.get() - turned_away == 2


def test_a_start_loads_nothing_but_the_general_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand keys would take minutes; a probe would have the replica killed before."""
    own = {
        key: publish(tmp_path / "own", key, seed=seed).model_version
        for seed, key in enumerate(["default", "doom", "pong"])
    }
    loads: list[str] = []
    load = CheckpointStore.load

    def counted(store: CheckpointStore, key: str, version: str) -> Checkpoint:
        loads.append(key)
        return load(store, key, version)

    monkeypatch.setattr(CheckpointStore, "load", counted)
    reconstructor = neural(tmp_path)
    assert loads == ["default"]
    assert reconstructor.serving() == own
    assert versions_of(reconstructor, "pong", "pong") == [own["pong"]] * 2
    assert loads == ["default", "pong"]
    newer = publish(tmp_path / "own", "doom", seed=3).model_version
    assert reconstructor.refresh() == 1  # checked at once: the old one would serve on
    assert versions_of(reconstructor, "doom") == [newer]
    assert loads == ["default", "pong", "doom"]


def test_what_was_damaged_since_it_was_let_go_is_served_by_the_general_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    newer = publish(root, "doom", seed=3).model_version
    assert reconstructor.refresh() == 1
    assert versions_of(reconstructor, "doom", "pong") == [newer, pong]


def test_predicted_psnr_is_that_of_the_mean_squared_error() -> None:
    assert predicted_psnr_db(np.log(np.full((3, 4), 0.1, np.float32))) == pytest.approx(20.0)
    assert predicted_psnr_db(np.full((3, 4), 1e6, np.float32)) is None
    assert predicted_psnr_db(np.full((3, 4), np.nan, np.float32)) is None
    uneven = np.log(np.array([[0.1, 0.3]], np.float32))
    assert predicted_psnr_db(uneven) == pytest.approx(-10 * np.log10(0.05), abs=1e-4)


@pytest.mark.parametrize("method", ["telea", "navier_stokes"])
def test_inpainting_keeps_the_samples_and_doubts_nothing(tmp_path: Path, method: str) -> None:
    reconstructor = build_reconstructor(settings_of(tmp_path, f"reconstructor.method={method}"))
    assert isinstance(reconstructor, InpaintReconstructor)
    frames = [frame(size=(64, 48)), frame(seed=2)]
    for one, result in zip(frames, reconstructor.reconstruct(frames), strict=True):
        sent = np.round(one.samples[:, 2] * 255).astype(np.uint8)
        np.testing.assert_array_equal(at_samples(result.image, one), sent)
        assert result.image.shape == (one.height, one.width)
        assert result.image.std() > 0
        assert result.grid == (-(-one.height // 8), -(-one.width // 8))
        assert result.entropy is None
        assert result.log_error is None
        assert result.model_version == method
    assert reconstructor.serving() == {"default": method}
    assert reconstructor.refresh() == 0


def test_the_transformer_is_the_default_method(tmp_path: Path) -> None:
    reconstructor = build_reconstructor(settings_of(tmp_path))
    assert isinstance(reconstructor, NeuralReconstructor)
    reconstructor.warm_up()


def test_what_a_gpu_serves_in_bfloat16_is_the_same_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped checkpoint on a CPU, by the precision that a GPU has."""
    settings = load_settings(
        ["data.checkpoints_dir=none", "importance.method=attention_entropy"], environment={}
    )
    reconstructor = NeuralReconstructor(stores_of(settings.data), settings)
    frames = [frame("default", count=count, size=(160, 120), history=True) for count in (500, 400)]
    frames = [*frames, frame("default", count=500, size=(84, 84))]
    exact = reconstructor.reconstruct(frames)
    monkeypatch.setattr(
        "reconstructor.forward.network_precision",
        lambda device: torch.autocast(device.type, torch.bfloat16),
    )
    for rough, right in zip(reconstructor.reconstruct(frames), exact, strict=True):
        assert rough.image.dtype == np.uint8
        off = np.abs(rough.image.astype(int) - right.image)
        assert 0 < off.mean() < 1
        assert off.max() < 20
        for name, tolerance in (("log_error", 0.2), ("entropy", 0.05)):
            grid = getattr(rough, name)
            assert grid.dtype == np.float32
            np.testing.assert_allclose(grid, getattr(right, name), atol=tolerance)


def test_weights_in_bfloat16_are_what_the_network_computes_with() -> None:
    """To round them once is to round them in every pass."""
    model, manifest, _ = load_serving(load_settings(["data.checkpoints_dir=none"]).data, "default")
    now = frame("default", count=500, size=(160, 120))
    inputs = collate(
        [(now.samples, (), now.state)],
        width=now.width,
        height=now.height,
        attended_frames=manifest.model.attended_frames,
        max_state_dim=manifest.model.max_state_dim,
        sentinel=-999.0,
    )
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        every_time = model(inputs)
        once = in_bfloat16(model)(inputs)
    assert next(model.head.refine.parameters()).dtype == torch.bfloat16
    torch.testing.assert_close(once.frame, every_time.frame, rtol=0, atol=0)
    torch.testing.assert_close(once.log_error, every_time.log_error, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("frames", "samples", "expected"),
    [(1, 500, (1, 512)), (3, 512, (4, 512)), (16, 1, (16, 64)), (17, 1000, (32, 1024))],
)
def test_shapes_on_a_gpu_are_few(frames: int, samples: int, expected: tuple[int, int]) -> None:
    assert (batch_size(frames), columns(samples)) == expected


class Graph:
    """Stands in for a graph of a GPU: which batches were replayed, and what cannot be captured."""

    made = 0
    replayed = 0

    def __init__(self, *_: object, **__: object) -> None:
        Graph.made += 1

    def replay(self, _: ModelInput) -> list[torch.Tensor]:
        Graph.replayed += 1
        return []


class NoRoom(Graph):
    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()
        raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(("graph", "replayed"), [(Graph, 4), (NoRoom, 0)])
def test_a_shape_that_comes_again_becomes_a_graph_once(
    monkeypatch: pytest.MonkeyPatch, graph: type[Graph], replayed: int
) -> None:
    """One that cannot be captured goes kernel by kernel, and is not tried again."""
    monkeypatch.setattr("reconstructor.forward._Graph", graph)
    monkeypatch.setattr("reconstructor.forward.MOST_GRAPHS", 2)
    Graph.made = Graph.replayed = 0
    settings = load_settings(["model.embed_dim=24", "model.num_heads=2", "model.ffn_dim=32"])
    forward = Forward(build_model(settings.model).eval(), torch.device("cpu"))

    def come(size: tuple[int, int], times: int) -> None:
        now = frame(size=size)
        inputs = collate(
            [(now.samples, (), now.state)],
            width=size[0],
            height=size[1],
            attended_frames=1,
            max_state_dim=settings.max_state_dim,
            sentinel=-999.0,
        )
        for _ in range(times):
            forward.on_gpu(inputs, entropy=False)

    come((36, 28), 2)
    assert Graph.made == 0
    come((36, 28), 4)
    for width in range(40, 80, 8):  # come once each, and drive out nothing
        come((width, 28), 1)
    assert (Graph.made, Graph.replayed) == (1, replayed)
    for width in (40, 48):
        come((width, 28), 2)
    come((36, 28), 1)  # the one of three that was wanted longest ago had to go
    assert Graph.made == 4


def test_a_checkpoint_is_served_in_its_own_shape(tmp_path: Path) -> None:
    manifest = publish(tmp_path / "own", "doom")
    assert manifest.model.history_frames > 0
    other = ("model.history_frames=0", "model.attended_frames=0", "max_state_dim=5")
    seen = frame("doom", history=True)
    (expected,) = neural(tmp_path).reconstruct([seen])
    (result,) = neural(tmp_path, *other).reconstruct([seen])
    assert_same(result, expected)
