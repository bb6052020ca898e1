"""A model at work: `python -m sgaps_cli.bench.model_loop ours|floor PICTURE`, the latter as JSON.

Ours is all that stands between a frame on the stream and its next coordinates, but the bus: older
samples unpacked, the reconstructor, the summary, the sampler's choice. The floor is one forward
pass of the same weights over a batch that is ready. Prints a list, in the order of the batches.
`… gpu` prints whether there is one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from reconstructor.forward import SEEN_BEFORE_CAPTURE, Forward, columns
from reconstructor.neural import NeuralReconstructor
from reconstructor.past import Past
from reconstructor.worker import frame_input, summary
from sampler.choose import choose, draft
from sgaps.atlas.atlas import Atlas
from sgaps.atlas.camera import Camera, Pose
from sgaps.atlas.pictures import encoded
from sgaps.checkpoints import DEFAULT_KEY
from sgaps.messages import FrameAccepted
from sgaps.model import CheckpointStore, collate, load_serving, prepare_cpu, stores_of
from sgaps.settings import PoseLayout, Settings, load_settings
from sgaps_cli.bench.frames import accepted_frames
from sgaps_cli.bench.pictures import Pace, Picture
from sgaps_cli.bench.processes import Meter
from sgaps_cli.bench.report import Run

WARM_UP_BATCHES = SEEN_BEFORE_CAPTURE + 1
DRAWN_PICTURES = 16
"""As many JPEGs are made for an atlas, and come again and again."""

Work = Callable[[], object]


def settings_of(picture: Picture) -> Settings:
    """One's own checkpoints are left out: the shipped one is measured."""
    return load_settings(
        [
            f"reconstructor.device={picture.device}",
            f"reconstructor.cpu_threads={picture.threads}",
            f"reconstructor.max_batch={max(picture.batches)}",
            f"importance={picture.importance}",
            f"sampling.default_sample_count={picture.samples}",
            "data.checkpoints_dir=none",
        ],
        environment={},
    )


def waiting_frames(picture: Picture, settings: Settings) -> list[tuple[FrameAccepted, Past]]:
    """Frames, each with the older samples of its session."""
    frames = accepted_frames(
        max(picture.batches), width=picture.width, height=picture.height, samples=picture.samples
    )
    ages = range(1, settings.model.history_frames + 1)
    return [
        (frame, tuple((frame.frame_id - age, frame.samples) for age in ages)) for frame in frames
    ]


def ours(picture: Picture) -> Callable[[int], Work]:
    """How a batch of a size is done by the services' own code."""
    settings = settings_of(picture)
    reconstructor = reconstructor_of(picture, settings)
    waiting = waiting_frames(picture, settings)

    def work(batch: int) -> Work:
        def rebuild() -> None:
            now_secs = time.time()
            results = reconstructor.reconstruct([frame_input(*pair) for pair in waiting[:batch]])
            for (frame, _), result in zip(waiting, results, strict=False):
                told = summary(frame, result, now_secs, 0.0, "")
                choose(told, draft(told, settings), None, settings)

        return rebuild

    return work


def reconstructor_of(picture: Picture, settings: Settings) -> NeuralReconstructor:
    """With the shipped checkpoint, and with an atlas where the picture has one."""
    stores = stores_of(settings.data)
    if not picture.atlas_pictures:
        return NeuralReconstructor(stores, settings)
    model, manifest, _ = load_serving(settings.data, DEFAULT_KEY)
    with TemporaryDirectory() as folder:
        own = CheckpointStore(Path(folder))
        own.publish(
            DEFAULT_KEY,
            model,
            settings=manifest.model,
            metrics=manifest.metrics,
            parent=None,
            data=manifest.data,
            training={},
            atlas=_atlas(picture, settings.atlas.jpeg_quality),
        )
        return NeuralReconstructor([own, *stores], settings)


def _atlas(picture: Picture, quality: int) -> Atlas:
    """Of noise, all around the poses that the frames' states tell."""
    rng = np.random.default_rng(0)
    size = (picture.height, picture.width)
    jpegs = [encoded(rng.integers(0, 256, size, np.uint8), quality) for _ in range(DRAWN_PICTURES)]
    places = rng.random((picture.atlas_pictures, 3)).tolist()
    return Atlas.of(
        [jpegs[i % DRAWN_PICTURES] for i in range(len(places))],
        [Pose(position=(east, north, up), yaw=0, pitch=0) for east, north, up in places],
        width=picture.width,
        height=picture.height,
        layout=PoseLayout(values=(0, 1, 2, 3), nearest=0.2),
        camera=Camera(focal_width=0.5, focal_height=0.8, horizon=0.5),
    )


def floor(picture: Picture) -> Callable[[int], Work]:
    """How it is done where nothing but the network has anything to do."""
    settings = settings_of(picture)
    if picture.device == "cpu":
        prepare_cpu(picture.threads)
    device = torch.device(picture.device)
    forward = Forward(load_serving(settings.data, DEFAULT_KEY)[0].to(device), device)
    inputs = [frame_input(*pair) for pair in waiting_frames(picture, settings)]
    on_gpu = picture.device == "cuda"
    room = (columns(picture.samples), settings.model.history_frames) if on_gpu else (1, 0)

    def work(batch: int) -> Work:
        ready = collate(
            [(x.samples, x.history, x.state) for x in inputs[:batch]],
            width=picture.width,
            height=picture.height,
            attended_frames=settings.model.attended_frames,
            max_state_dim=settings.max_state_dim,
            sentinel=settings.sentinel_value,
            room=room,
        )
        by_entropy = settings.importance.method == "attention_entropy"
        return lambda: forward(ready, entropy=by_entropy)

    return work


def pace(picture: Picture, batch: int, work: Work) -> Pace:
    for _ in range(WARM_UP_BATCHES):
        work()
    if picture.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    count = -(-picture.frames // batch)
    secs = []
    with Meter(count * batch) as meter:
        for _ in range(count):
            began_secs = time.perf_counter()
            work()
            secs.append(time.perf_counter() - began_secs)
    p50_ms, p99_ms = (np.percentile(secs, [50, 99]) * 1000).tolist()
    return Pace(p50_ms=p50_ms, p99_ms=p99_ms, **vars(on_device(meter.run, picture.device)))


def on_device(run: Run, device: str) -> Run:
    """Where the model is on a GPU, the memory that counts is the GPU's."""
    if device != "cuda":
        return run
    return replace(run, peak_memory_mib=torch.cuda.max_memory_allocated() / 2**20)


@torch.inference_mode()
def main(side: str, picture: Picture) -> Sequence[Pace]:
    work = (ours if side == "ours" else floor)(picture)
    return [pace(picture, batch, work(batch)) for batch in picture.batches]


if __name__ == "__main__":
    if sys.argv[1] == "gpu":
        print(json.dumps(torch.cuda.is_available()))
    else:
        paces = main(sys.argv[1], Picture(**json.loads(sys.argv[2])))
        print(json.dumps([asdict(p) for p in paces]))
