"""Checkpoints that nobody should load: each kind of damage is a function over a version's folder.

`hostile_checkpoints` is what tests go through: publish a good one, apply, see it refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from numpy.typing import NDArray

from sgaps.checkpoints import ATLAS_NAME, MANIFEST_NAME, POINTER_NAME, WEIGHTS_NAME
from unit.toy_room import HEIGHT, WIDTH

Damage = Callable[[Path], object]
"""Takes the folder of a version: `<root>/<key>/<version>`."""

HEADER = struct.Struct("<Q")
BITS_FLIPPED = 48
CUTS = (0, 1, 7, 8, 9, 100, 1000)
TRUST_WEIGHT = "trust.correction.0.weight"


def hostile_checkpoints() -> Iterator[tuple[str, Damage]]:
    """Every kind with its name; over a hundred."""
    yield from WEIGHTS.items()
    yield from TENSORS.items()
    yield from MANIFESTS.items()
    yield from PLACES.items()
    yield from POINTERS.items()
    yield from ATLASES.items()
    for name in (WEIGHTS_NAME, MANIFEST_NAME, ATLAS_NAME):
        for size_bytes in CUTS:
            yield f"{name} cut to {size_bytes} bytes", _cut(name, size_bytes)
    for number in range(BITS_FLIPPED):
        yield f"bit {number} of {BITS_FLIPPED} of the weights flipped", _flip(number)


def resealed(folder: Path, weights: bytes) -> None:
    """Other weights with a manifest that says so: the hash alone does not save us."""
    (folder / WEIGHTS_NAME).write_bytes(weights)
    claim(folder, weights_sha256=hashlib.sha256(weights).hexdigest(), weights_bytes=len(weights))


def claim(folder: Path, **fields: Any) -> None:
    """A manifest with other fields."""
    path = folder / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def _claim(**fields: Any) -> Damage:
    return lambda folder: claim(folder, **fields)


def _model(**numbers: Any) -> Damage:
    def damage(folder: Path) -> None:
        model = json.loads((folder / MANIFEST_NAME).read_text())["model"]
        claim(folder, model={**model, **numbers})

    return damage


def _metrics(**numbers: float) -> Damage:
    return _claim(metrics={"val_psnr_db": 21.0, "champion_psnr_db": 20.0, **numbers})


def _replaced(name: str, data: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(data)


def _resealed(weights: bytes) -> Damage:
    return lambda folder: resealed(folder, weights)


def _tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    def damage(folder: Path) -> None:
        tensors = safetensors.torch.load_file(folder / WEIGHTS_NAME)
        change(tensors)
        resealed(folder, safetensors.torch.save(tensors))

    return damage


def _filled(value: float) -> Damage:
    return _tensors(lambda tensors: tensors["film.bias"][-1:].fill_(value))


def _typed(dtype: torch.dtype) -> Damage:
    return _tensors(lambda tensors: tensors.update({BIAS: tensors[BIAS].to(dtype)}))


def _header(change: Callable[[dict[str, Any]], object]) -> Damage:
    """The header of a safetensors file changed, the numbers behind it as they were."""

    def damage(folder: Path) -> None:
        data = (folder / WEIGHTS_NAME).read_bytes()
        end = HEADER.size + HEADER.unpack_from(data)[0]
        header = json.loads(data[HEADER.size : end])
        change(header)
        text = json.dumps(header).encode()
        resealed(folder, HEADER.pack(len(text)) + text + data[end:])

    return damage


def _header_length(length: int) -> Damage:
    def damage(folder: Path) -> None:
        data = (folder / WEIGHTS_NAME).read_bytes()
        resealed(folder, HEADER.pack(length) + data[HEADER.size :])

    return damage


def _cut(name: str, size_bytes: int) -> Damage:
    return lambda folder: os.truncate(folder / name, size_bytes)


def _flip(number: int) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / WEIGHTS_NAME
        data = bytearray(path.read_bytes())
        bit = number * (8 * len(data) - 1) // (BITS_FLIPPED - 1)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)

    return damage


def _card(**fields: Any) -> Damage:
    """What the manifest says of the atlas."""

    def damage(folder: Path) -> None:
        card = json.loads((folder / MANIFEST_NAME).read_text())["atlas"]
        claim(folder, atlas={**card, **fields})

    return damage


def _atlas(data: bytes) -> Damage:
    """Another atlas, with a manifest that says so."""

    def damage(folder: Path) -> None:
        (folder / ATLAS_NAME).write_bytes(data)
        _card(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))(folder)

    return damage


def _atlas_tensors(change: Callable[[dict[str, NDArray[Any]]], object]) -> Damage:
    def damage(folder: Path) -> None:
        tensors = dict(safetensors.numpy.load_file(folder / ATLAS_NAME))
        change(tensors)
        _atlas(safetensors.numpy.save(tensors))(folder)

    return damage


def _pictures(picture: bytes) -> Damage:
    """All pictures replaced by one."""

    def damage(folder: Path) -> None:
        tensors = dict(safetensors.numpy.load_file(folder / ATLAS_NAME))
        count = len(tensors["ends"])
        tensors["jpeg"] = np.frombuffer(picture * count, np.uint8)
        tensors["ends"] = len(picture) * np.arange(1, count + 1)
        _atlas(safetensors.numpy.save(tensors))(folder)

    return damage


def _pose(value: float) -> Damage:
    return _atlas_tensors(
        lambda tensors: tensors.update(poses=np.full_like(tensors["poses"], value))
    )


def _trust(change: Callable[[NDArray[Any]], NDArray[Any]]) -> Damage:
    return _atlas_tensors(
        lambda tensors: tensors.update({TRUST_WEIGHT: change(tensors[TRUST_WEIGHT])})
    )


def _jpeg(width: int, height: int) -> bytes:
    return cv2.imencode(".jpg", np.zeros((height, width), np.uint8))[1].tobytes()


def _wrap(tensors: dict[str, NDArray[Any]]) -> None:
    """Ends whose differences are all positive where int64 overflows."""
    ends = tensors["ends"].copy()
    ends[0], ends[1] = 2**63 - 1, -(2**63) + 10
    tensors["ends"] = ends


def _huge() -> bytes:
    """A JPEG of a few hundred bytes that says that it has 65,500 rows and columns."""
    data = bytearray(_jpeg(8, 8))
    frame = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, frame + 5, 65500, 65500)
    return bytes(data)


def two_frames(first: int, size: int) -> bytes:
    """A JPEG that begins as a huge one of another kind; its frame of the right size comes late."""
    frames = [
        struct.pack(">BBHBHHBBBB", 0xFF, kind, 11, 8, height, width, 1, 1, 0x11, 0)
        for kind, height, width in ((first, size, size), (0xC0, HEIGHT, WIDTH))
    ]
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    return b"\xff\xd8" + frames[0] + scan + frames[1]


def _instead(path: Path, make: Callable[[Path], object]) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    make(path)


def _file(name: str, make: Callable[[Path], object]) -> Damage:
    return lambda folder: _instead(folder / name, make)


def _moved_out(folder: Path, path: Path) -> None:
    """The thing itself lies beside the root of the checkpoints, and a link where it was."""
    target = folder.parents[2] / f"{path.name}-outside"
    path.rename(target)
    path.symlink_to(target)


def _pointer(data: bytes) -> Damage:
    return lambda folder: (folder.parent / POINTER_NAME).write_bytes(data)


def _pointer_is(make: Callable[[Path], object]) -> Damage:
    return lambda folder: _instead(folder.parent / POINTER_NAME, make)


BIAS = "log_error.bias"

WEIGHTS: dict[str, Damage] = {
    "pickle": _resealed(pickle.dumps({"a": 1})),
    "pickle that runs code": _resealed(b"cos\nsystem\n(S'exit 1'\ntR."),
    "zip of torch.save": _resealed(b"PK\x03\x04" + bytes(100)),
    "empty": _resealed(b""),
    "zeros": _resealed(bytes(1000)),
    "wrong hash": _claim(weights_sha256="0" * 64),
    "hash is no hash": _claim(weights_sha256="../../x"),
    "fewer bytes than it says": _claim(weights_bytes=1 << 20),
    "more bytes than it says": _claim(weights_bytes=100),
    "longer": lambda folder: os.truncate(folder / WEIGHTS_NAME, 1 << 20),
    "sparse and huge": lambda folder: os.truncate(folder / WEIGHTS_NAME, 1 << 40),
    "missing": lambda folder: (folder / WEIGHTS_NAME).unlink(),
}

TENSORS: dict[str, Damage] = {
    "nan": _filled(float("nan")),
    "inf": _filled(float("inf")),
    "minus inf": _filled(float("-inf")),
    "a tensor is missing": _tensors(lambda tensors: tensors.pop(BIAS)),
    "one too many": _tensors(lambda tensors: tensors.update(extra=torch.zeros(1))),
    "another name": _tensors(lambda tensors: tensors.update({"x": tensors.pop(BIAS)})),
    "another shape": _tensors(lambda tensors: tensors.update({BIAS: torch.zeros(1, 3)})),
    "an empty shape": _tensors(lambda tensors: tensors.update({BIAS: torch.zeros(0)})),
    **{
        str(dtype): _typed(dtype)
        for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool)
    },
    "no tensors": _resealed(safetensors.torch.save({})),
    "unknown type": _header(lambda header: header[BIAS].update(dtype="F128")),
    "a type torch lacks": _header(lambda header: header[BIAS].update(dtype="F4", shape=[8])),
    "type of another size": _header(lambda header: header[BIAS].update(dtype="U8")),
    "negative shape": _header(lambda header: header[BIAS].update(shape=[-1])),
    "huge shape": _header(lambda header: header[BIAS].update(shape=[2**63, 2**63])),
    "offsets beyond the end": _header(lambda header: header[BIAS].update(data_offsets=[0, 2**60])),
    "offsets backwards": _header(lambda header: header[BIAS].update(data_offsets=[8, 4])),
    "offsets overlap": _header(lambda header: header[BIAS].update(data_offsets=[0, 4])),
    "header is a list": _resealed(HEADER.pack(2) + b"[]"),
    "header is nested": _resealed(HEADER.pack(100_000) + b"[" * 100_000),
    "header of 2^60 bytes": _header_length(2**60),
    "header of 2^64 bytes": _header_length(2**64 - 1),
    "header of no bytes": _header_length(0),
    "header as long as the file": _header_length(5000),
}

MANIFESTS: dict[str, Damage] = {
    "of another key": _claim(checkpoint_key="pong"),
    "of another version": _claim(model_version="v0001-00000000"),
    "of a path": _claim(checkpoint_key="../doom"),
    "other schema": _claim(schema_version=2),
    "unknown field": _claim(extra=1),
    "many unknown fields": _claim(**{f"x{i}": 1 for i in range(9999)}),
    "negative size": _claim(weights_bytes=-1),
    "absurd size": _claim(weights_bytes=2**70),
    "negative frames": _claim(data={"frames": -1, "train_sessions": [], "val_sessions": []}),
    "nan metrics": _metrics(val_psnr_db=float("nan")),
    "infinite metrics": _metrics(val_psnr_db=float("inf")),
    "nan champion": _metrics(champion_psnr_db=float("nan")),
    "worse than the champion": _metrics(val_psnr_db=19.0),
    "worse by what decided": _metrics(val_score_db=1.0, champion_score_db=2.0),
    "half of the scores": _metrics(val_score_db=21.0),
    "metrics are text": _claim(metrics="good"),
    "training is nested": _replaced(MANIFEST_NAME, b'{"training":' + b"[" * 100_000),
    "embed_dim huge": _model(embed_dim=10**9, num_heads=1),
    "as large as allowed": _model(embed_dim=8192, encoder_layers=64, ffn_dim=8192),
    "a million layers": _model(encoder_layers=10**6),
    "negative layers": _model(encoder_layers=-1),
    "heads do not divide": _model(num_heads=5),
    "no heads": _model(num_heads=0),
    "stride of nothing": _model(query_stride=0),
    "another stride": _model(query_stride=3),
    "more frequencies": _model(position_frequencies=9),
    "in color": _model(color_channels=3),
    "fields are infinite": _model(embed_dim=float("inf")),
    "2 MB": _replaced(MANIFEST_NAME, b" " * (2 << 20)),
    "5 MB of training": _claim(training={"x": "a" * (5 << 20)}),
    "no JSON": _replaced(MANIFEST_NAME, b"\x80\x04N."),
    "no UTF-8": _replaced(MANIFEST_NAME, b"\xff\xfe{}"),
    "a lone surrogate": _replaced(MANIFEST_NAME, b'{"checkpoint_key":"\\ud800"}'),
    "empty object": _replaced(MANIFEST_NAME, b"{}"),
    "manifest is missing": lambda folder: (folder / MANIFEST_NAME).unlink(),
}

ATLASES: dict[str, Damage] = {
    "atlas is missing": lambda folder: (folder / ATLAS_NAME).unlink(),
    "atlas of another hash": _card(sha256="0" * 64),
    "atlas is a pickle": _atlas(pickle.dumps({"a": 1})),
    "atlas is empty": _atlas(b""),
    "atlas without tensors": _atlas(safetensors.numpy.save({})),
    "atlas of no size": _card(width=0),
    "atlas of another size": _card(width=99),
    "atlas of a huge size": _card(width=1 << 30),
    "atlas of a million pictures": _card(pictures=10**6),
    "atlas of more pictures": _card(pictures=5),
    "atlas of absurd bytes": _card(bytes=1 << 60),
    "atlas of no focal length": _card(camera={"focal_width": 0, "focal_height": 1, "horizon": 0.5}),
    "atlas of an endless focal length": _card(
        camera={"focal_width": 1e300, "focal_height": 1, "horizon": 0.5}
    ),
    "atlas of nan": _card(camera={"focal_width": 1, "focal_height": float("nan"), "horizon": 0.5}),
    "atlas of a negative place": _card(layout={"values": [-1, 0, 1, 2], "nearest": 40}),
    "atlas of three values": _card(layout={"values": [0, 1, 2], "nearest": 40}),
    "atlas of nothing near": _card(layout={"values": [0, 1, 2, 3], "nearest": 1e-300}),
    "atlas is text": _claim(atlas="big"),
    "a pose is nan": _pose(float("nan")),
    "a pose is infinite": _pose(float("inf")),
    "a pose is huge": _pose(1e300),
    "a pose turns a billion times": _pose(1e12),
    "ends wrap around": _atlas_tensors(_wrap),
    "poses in another type": _atlas_tensors(
        lambda tensors: tensors.update(poses=tensors["poses"].astype(np.float32))
    ),
    "poses are fewer": _atlas_tensors(lambda tensors: tensors.update(poses=tensors["poses"][1:])),
    "ends backwards": _atlas_tensors(
        lambda tensors: tensors.update(ends=tensors["ends"][::-1].copy())
    ),
    "ends below zero": _atlas_tensors(lambda tensors: tensors.update(ends=-tensors["ends"])),
    "ends beyond the end": _atlas_tensors(lambda tensors: tensors.update(ends=tensors["ends"] + 1)),
    "trust is nan": _trust(lambda weight: np.nan * weight),
    "trust is infinite": _trust(lambda weight: weight + np.float32(np.inf)),
    "trust is huge": _trust(lambda weight: np.float32(1e12) * weight),
    "trust of another shape": _trust(lambda weight: weight[1:]),
    "trust in another type": _trust(lambda weight: weight.astype(np.float16)),
    "trust lacks a weight": _atlas_tensors(lambda tensors: tensors.pop(TRUST_WEIGHT)),
    "pictures are no pictures": _pictures(b"GIF89a"),
    "pictures of another size": _pictures(_jpeg(8, 8)),
    "pictures that claim to be huge": _pictures(_huge()),
    "pictures that begin as a huge progressive one": _pictures(two_frames(0xC2, 65500)),
    "pictures that begin as a huge extended one": _pictures(two_frames(0xC1, 20000)),
}

PLACES: dict[str, Damage] = {
    "weights are a link out": _file(WEIGHTS_NAME, lambda path: path.symlink_to("/etc/hostname")),
    "manifest is a link out": _file(MANIFEST_NAME, lambda path: path.symlink_to("/etc/hostname")),
    "weights moved out": lambda folder: _moved_out(folder, folder / WEIGHTS_NAME),
    "manifest moved out": lambda folder: _moved_out(folder, folder / MANIFEST_NAME),
    "version moved out": lambda folder: _moved_out(folder, folder),
    "key moved out": lambda folder: _moved_out(folder, folder.parent),
    "weights link to themselves": _file(WEIGHTS_NAME, lambda path: path.symlink_to(path)),
    "weights are a FIFO": _file(WEIGHTS_NAME, os.mkfifo),
    "manifest is a FIFO": _file(MANIFEST_NAME, os.mkfifo),
    "version is a FIFO": lambda folder: _instead(folder, os.mkfifo),
    "weights are a folder": _file(WEIGHTS_NAME, Path.mkdir),
    "manifest is a folder": _file(MANIFEST_NAME, Path.mkdir),
    "weights are endless": _file(WEIGHTS_NAME, lambda path: path.symlink_to("/dev/zero")),
    "version is a file": lambda folder: _instead(folder, Path.touch),
    "version is gone": shutil.rmtree,
}

POINTERS: dict[str, Damage] = {
    "pointer is a FIFO": _pointer_is(os.mkfifo),
    "pointer is a folder": _pointer_is(Path.mkdir),
    "pointer is endless": _pointer_is(lambda path: path.symlink_to("/dev/zero")),
    "pointer moved out": lambda folder: _moved_out(folder, folder.parent / POINTER_NAME),
    "pointer is a link to nothing": _pointer_is(lambda path: path.symlink_to("nothing")),
    **{
        f"pointer says {data[:12]!r}": _pointer(data)
        for data in (
            *(b"", b"../../x", b"..", b".", b"/etc", b"v1\nv2", b"v1\0", b"\xff", b"v1 v2", b"v.1"),
            *("v１".encode(), "\u202ev1".encode(), b"a" * 65, b"v" * (1 << 20), b"v9999-00000000"),
        )
    },
}
