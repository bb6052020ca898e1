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
from dataclasses import asdict

import numpy as np
import torch

from reconstructor.forward import SEEN_BEFORE_CAPTURE, Forward, columns
from reconstructor.neural import NeuralReconstructor
from reconstructor.worker import frame_input, summary
from sampler.choose import choose, draft
from sgaps.checkpoints import DEFAULT_KEY
from sgaps.messages import FrameAccepted
from sgaps.model import collate, load_serving, prepare_cpu, stores_of
from sgaps.settings import Settings, load_settings
from sgaps_cli.bench.frames import accepted_frames, past_of
from sgaps_cli.bench.pictures import Pace, Picture
from sgaps_cli.bench.processes import Meter
from sgaps_cli.bench.report import Run

WARM_UP_BATCHES = SEEN_BEFORE_CAPTURE + 1


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


def waiting_frames(picture: Picture, settings: Settings) -> list[tuple[FrameAccepted, list[bytes]]]:
    """Frames, each with the older samples that lie beside the stream."""
    frames = accepted_frames(
        max(picture.batches), width=picture.width, height=picture.height, samples=picture.samples
    )
    ages = range(1, settings.model.history_frames + 1)
    return [(frame, [past_of(frame, frame.frame_id - age) for age in ages]) for frame in frames]


def ours(picture: Picture) -> Callable[[int], Work]:
    """How a batch of a size is done by the services' own code."""
    settings = settings_of(picture)
    reconstructor = NeuralReconstructor(stores_of(settings.data), settings)
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
    return Pace(run=_on_device(meter.run, picture), p50_ms=p50_ms, p99_ms=p99_ms)


def _on_device(run: Run, picture: Picture) -> Run:
    """Where the model is on a GPU, the memory that counts is the GPU's."""
    if picture.device != "cuda":
        return run
    return Run(
        frames_per_sec=run.frames_per_sec,
        cpu_secs_per_1000_frames=run.cpu_secs_per_1000_frames,
        peak_memory_mib=torch.cuda.max_memory_allocated() / 2**20,
    )


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
