"""`python -m trainer.evaluate`: how good a checkpoint is on whole-frame recordings.

`sgaps evaluate` calls it. Every row sees the same samples of the same frames.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from sgaps.checkpoints import UNTRAINED
from sgaps.errors import CheckpointNotFound, SgapsError
from sgaps.model import SparsePixelTransformer, build_model, load_serving
from sgaps.recording import find_segments
from sgaps.settings import Settings, load_settings
from trainer.batch import make_batch
from trainer.dataset import Example, ExampleOptions, RecordingDataset
from trainer.validation import psnr_db

CONFIDENCE_95 = 1.96
INPAINT_RADIUS_PX = 3
PICTURED_FRAMES = 4

Picture = NDArray[np.uint8]
Method = Callable[[Example], Picture]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method over all sessions."""

    method: str
    psnr_db: float
    interval_db: float
    """Half of the 95 % interval over sessions; 0 with one session."""
    frames: int
    sessions: int


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 done, 1 failed, 2 wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        settings = load_settings(arguments.overrides)
        rows, pictures = evaluate(arguments.key, settings, max_frames=arguments.frames)
    except SgapsError as error:
        sys.stderr.write(f"evaluate: {error}\n")
        return 1
    if arguments.picture:
        cv2.imwrite(str(arguments.picture), np.vstack(pictures))
    as_json = json.dumps([asdict(row) for row in rows], indent=2)
    sys.stdout.write((as_json if arguments.json else table(rows)) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sgaps evaluate",
        description="PSNR of the checkpoint of a key on recordings with whole frames.",
        epilog="example: sgaps evaluate --key doom-my_way_home 'data.test=[held_out]' "
        "--picture figures.png",
    )
    parser.add_argument("--key", required=True, help="checkpoint key to evaluate")
    parser.add_argument("--frames", type=int, default=200, help="frames at most (default 200)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--picture",
        type=Path,
        help="PNG to write: truth, samples, pull-push, reconstruction, error, entropy",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to override")
    return parser


def evaluate(key: str, settings: Settings, *, max_frames: int) -> tuple[list[Row], list[Picture]]:
    """Rows of the table, and a strip of pictures for some of the frames. Raises SgapsError."""
    dataset = _dataset(key, settings)
    model, version = _model(key, settings)
    prior = build_model(settings.model).eval()
    methods: dict[str, Method] = {
        "prior (smoothed pull-push)": lambda e: _rebuild(prior, e, settings)[0],
        "Telea": _telea,
        f"model {version}": lambda e: _rebuild(model, e, settings)[0],
    }
    psnrs: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in methods}
    indices = np.unique(np.linspace(0, len(dataset) - 1, min(max_frames, len(dataset))).astype(int))
    for index in tqdm(indices.tolist(), desc="evaluate", unit="frame"):
        example = dataset[index]
        for name, method in methods.items():
            psnrs[name][example.session_id].append(_psnr(method(example), example))
    shown = indices[:: max(1, len(indices) // PICTURED_FRAMES)][:PICTURED_FRAMES]
    pictures = [_strip(model, prior, dataset[i], settings) for i in shown.tolist()]
    return [_row(name, by_session) for name, by_session in psnrs.items()], pictures


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| method | PSNR, dB | ± 95 % | frames | sessions |", "|---|---|---|---|---|"]
    lines += [
        f"| {r.method} | {r.psnr_db:.2f} | {r.interval_db:.2f} | {r.frames} | {r.sessions} |"
        for r in rows
    ]
    return "\n".join(lines)


def _dataset(key: str, settings: Settings) -> RecordingDataset:
    folders = settings.data.test or (settings.data.recordings_dir,)
    segments = [segment for folder in folders for segment in find_segments(folder, key)]
    options = ExampleOptions(
        history_frames=settings.model.history_frames,
        sampling=settings.sampling,
        seed=settings.training.seed,
        resample=False,
    )
    dataset = RecordingDataset(segments, options)
    if not dataset.has_keyframes:
        raise SgapsError(
            f"no whole frames of {key!r} in {', '.join(map(str, folders))}; "
            "make some: sgaps capture doom/my_way_home"
        )
    return dataset


def _model(key: str, settings: Settings) -> tuple[SparsePixelTransformer, str]:
    try:
        model, manifest = load_serving(settings.data, key)
    except CheckpointNotFound:
        return build_model(settings.model).eval(), UNTRAINED
    return model.eval(), manifest.model_version


@torch.inference_mode()
def _rebuild(
    model: SparsePixelTransformer, example: Example, settings: Settings
) -> tuple[Picture, Picture]:
    """The rebuilt frame and its entropy, both uint8 (H, W)."""
    batch = make_batch([example], settings, next(model.parameters()).device)
    output = model(batch.inputs, return_entropy=True)
    entropy = _stretched(output.entropy[0].float().cpu().numpy(), example)
    return _gray(output.frame[0, 0].float().cpu().numpy()), entropy


def _telea(example: Example) -> Picture:
    sparse, known = _sparse(example)
    filled = cv2.inpaint(sparse, (~known).astype(np.uint8), INPAINT_RADIUS_PX, cv2.INPAINT_TELEA)
    return np.asarray(filled, dtype=np.uint8)


def _sparse(example: Example) -> tuple[Picture, NDArray[np.bool_]]:
    """The samples on a black frame, and where they are."""
    image = np.zeros((example.height, example.width), np.uint8)
    known = np.zeros(image.shape, bool)
    u, v, value, _ = example.samples.T
    x = np.minimum((u * example.width).astype(int), example.width - 1)
    y = np.minimum((v * example.height).astype(int), example.height - 1)
    image[y, x], known[y, x] = _gray(value), True
    return image, known


def _strip(
    model: SparsePixelTransformer,
    prior: SparsePixelTransformer,
    example: Example,
    settings: Settings,
) -> Picture:
    """Truth, samples, pull-push, reconstruction, error ×4, entropy: side by side."""
    frame, entropy = _rebuild(model, example, settings)
    pull_push, _ = _rebuild(prior, example, settings)
    truth = _truth(example)
    error = np.clip(np.abs(truth.astype(int) - frame) * 4, 0, 255).astype(np.uint8)
    samples = cv2.dilate(_sparse(example)[0], np.ones((3, 3), np.uint8))
    return np.hstack([truth, np.asarray(samples, np.uint8), pull_push, frame, error, entropy])


def _truth(example: Example) -> Picture:
    if example.target is None:
        raise SgapsError("evaluation needs whole frames")
    return example.target


def _psnr(frame: Picture, example: Example) -> float:
    difference = (frame.astype(np.float64) - _truth(example)) / 255
    return psnr_db(float(np.square(difference).mean()))


def _row(name: str, by_session: dict[str, list[float]]) -> Row:
    means = np.array([np.mean(values) for values in by_session.values()])
    spread = means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else 0.0
    return Row(
        method=name,
        psnr_db=float(means.mean()),
        interval_db=float(CONFIDENCE_95 * spread),
        frames=sum(len(values) for values in by_session.values()),
        sessions=len(means),
    )


def _gray(values: NDArray[np.float32]) -> Picture:
    return np.clip(np.round(values * 255), 0, 255).astype(np.uint8)


def _stretched(grid: NDArray[np.float32], example: Example) -> Picture:
    span = float(grid.max() - grid.min()) or 1.0
    size = (example.width, example.height)
    scaled = cv2.resize(_gray((grid - grid.min()) / span), size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(scaled, dtype=np.uint8)


if __name__ == "__main__":
    sys.exit(main())
