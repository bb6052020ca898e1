"""Checkpoints are swapped under load, torn ones among them."""

from __future__ import annotations

import asyncio
import time

import torch

from faults.audit import audited
from faults.conftest import Form, StartRig
from faults.load import Load, Pace
from faults.report import FaultTable
from faults.rig import Rig
from hostile.checkpoints import TENSORS, WEIGHTS
from sgaps.bus import RedisBus
from sgaps.checkpoints import version_number
from sgaps.manifest import DataCard, Manifest, Metrics
from sgaps.messages import CheckpointPublished
from sgaps.model import CheckpointStore, build_model
from sgaps.settings import Settings, load_settings

KEY = "faults"
SMALL_MODEL = (
    *("reconstructor.method=spt", "model.embed_dim=12", "model.num_heads=1", "model.ffn_dim=16"),
    *("model.refine_channels=4", "model.coarse_channels=[]"),
    *("model.history_frames=1", "model.attended_frames=0"),
)
TORN = [*TENSORS.values(), *WEIGHTS.values()]
"""Kinds of damage that leave the place for the next checkpoint as it is."""
TORN_EVERY = 4
SEEN_TIMEOUT_SECS = 30.0


def publish(store: CheckpointStore, settings: Settings, number: int) -> Manifest:
    """A new model with other weights, in force."""
    torch.manual_seed(number)
    return store.publish(
        KEY,
        build_model(settings.model),
        settings=settings.model,
        metrics=Metrics(val_psnr_db=20.0, champion_psnr_db=20.0),
        parent=None,
        data=DataCard(frames=0, train_sessions=(), val_sessions=()),
        training={},
    )


async def until_served(load: Load, version: str) -> bool:
    """Whether every session is answered by this version within bounded time."""
    deadline_secs = time.monotonic() + SEEN_TIMEOUT_SECS
    while time.monotonic() < deadline_secs:
        if all(player.model_versions[-1:] == [version] for player in load.players):
            return True
        await asyncio.sleep(0.02)
    return False


async def swap(rig: Rig, load: Load, bus: RedisBus, settings: Settings, number: int) -> bool:
    """Publish one checkpoint; whether it served, or was refused if it is torn."""
    store = CheckpointStore(rig.checkpoints_dir)
    is_torn = number % TORN_EVERY == 0
    manifest = await asyncio.to_thread(publish, store, settings, number)
    version = manifest.model_version
    if is_torn:
        TORN[number % len(TORN)](store.key_dir(KEY) / version)
    await bus.publish(
        CheckpointPublished(checkpoint_key=KEY, model_version=version, val_psnr_db=20.0)
    )
    if is_torn:
        await asyncio.sleep(0.3)
        return not any(version in player.model_versions for player in load.players)
    return await until_served(load, version)


async def test_checkpoint_swaps_under_load(
    start_rig: StartRig, faults: FaultTable, form: Form
) -> None:
    swaps = form(8, 100)
    async with (
        start_rig(overrides=SMALL_MODEL) as rig,
        rig.playing(sessions=4, pace=Pace(frames_per_sec=10)) as load,
    ):
        settings = load_settings([*SMALL_MODEL, f"bus.url={rig.broker.url}"], environment={})
        bus = RedisBus(settings.bus)
        as_they_should = [
            await swap(rig, load, bus, settings, number) for number in range(1, swaps + 1)
        ]
        await bus.close()
        audit = await audited(rig, load)
    torn = {number for number in range(1, swaps + 1) if number % TORN_EVERY == 0}
    seen = [[version_number(v) for v in player.model_versions] for player in load.players]
    served_torn = torn & {number for numbers in seen for number in numbers}
    forward = all(numbers == sorted(set(numbers)) for numbers in seen)
    failed = sum(n for name, n in audit.ledger.items() if name.startswith(("dead", "lost")))
    faults.add(
        "checkpoints swapped under load, every 4th torn or worse",
        times=f"{swaps} swaps, {audit.accepted} frames",
        figure=f"{failed} failed frames; {as_they_should.count(False)} swaps not as they should; "
        f"versions {'only forward' if forward else 'went back'}",
        target="0 failed frames",
        met=not audit.problems()
        and not failed
        and all(as_they_should)
        and forward
        and not served_torn,
        why=(seen, audit),
    )
