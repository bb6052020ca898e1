"""An atlas as bytes: safetensors, in which nothing can be run."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from sgaps.atlas import trust
from sgaps.atlas.atlas import Atlas
from sgaps.atlas.camera import FARTHEST_POSITION, Pose
from sgaps.errors import CheckpointRejected
from sgaps.manifest import AtlasCard

JPEG, ENDS, POSES, TRUST = "jpeg", "ends", "poses", "trust."
NUMBERS_OF_A_POSE = 5


def to_bytes(atlas: Atlas) -> bytes:
    """The pictures one after the other, where each ends, the poses, and how far to trust them."""
    poses = [(*pose.position, pose.yaw, pose.pitch) for pose in atlas.poses]
    weights = trust.to_tensors(atlas.trust)
    return safetensors.numpy.save(
        {TRUST + name: weight for name, weight in weights.items()}
        | {
            JPEG: np.frombuffer(b"".join(atlas.pictures), np.uint8),
            ENDS: np.cumsum([len(picture) for picture in atlas.pictures], dtype=np.int64),
            POSES: np.array(poses, np.float64),
        }
    )


def from_bytes(data: bytes, card: AtlasCard) -> Atlas:
    """Checked to the last picture. Raises CheckpointRejected."""
    try:
        tensors = safetensors.numpy.load(data)
        jpeg, ends, poses = (tensors[name] for name in (JPEG, ENDS, POSES))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointRejected(f"the atlas is no safetensors file of one: {error}") from error
    _check(jpeg, ends, poses, card)
    weights = {n.removeprefix(TRUST): tensors[n] for n in tensors if n.startswith(TRUST)}
    starts = [0, *ends.tolist()]
    pictures = [jpeg.data[a:b] for a, b in pairwise(starts)]
    return Atlas.of(
        pictures,
        [_pose(row.tolist()) for row in poses],
        width=card.width,
        height=card.height,
        layout=card.layout,
        camera=card.camera,
        trust=trust.from_tensors(weights),
    )


def _check(
    jpeg: NDArray[np.uint8], ends: NDArray[np.int64], poses: NDArray[np.float64], card: AtlasCard
) -> None:
    count = card.pictures
    kinds = [(jpeg.dtype, jpeg.ndim), (ends.dtype, ends.shape), (poses.dtype, poses.shape)]
    wanted = [
        (np.uint8, 1),
        (np.int64, (count,)),
        (np.float64, (count, NUMBERS_OF_A_POSE)),
    ]
    if kinds != wanted:
        raise CheckpointRejected("the atlas has other tensors than its manifest claims")
    # First of all within the bytes: differences of larger numbers wrap around.
    inside = ((ends > 0) & (ends <= len(jpeg))).all()
    if not inside or (np.diff(ends) <= 0).any() or ends[-1] != len(jpeg):
        raise CheckpointRejected("the pictures of the atlas do not fill its bytes")
    if not (np.abs(poses) <= FARTHEST_POSITION).all():
        raise CheckpointRejected("a pose of the atlas is nowhere")


def _pose(numbers: list[float]) -> Pose:
    east, north, up, yaw, pitch = numbers
    return Pose(position=(east, north, up), yaw=yaw, pitch=pitch)
