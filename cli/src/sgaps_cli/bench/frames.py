"""Frames as they wait on the streams, for services to be measured on."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from redis import Redis

from sgaps.bus.redis_commands import FIELD
from sgaps.keys import PastSamples, history_key
from sgaps.messages import FrameAccepted, Message
from sgaps.packing import pack_floats, pack_footprints, pack_pixels
from sgaps.protocol.content import CoordinateSet
from sgaps.sampling.adaptive import AdaptiveUVSampler
from sgaps.sampling.importance import NOTHING_KNOWN
from sgaps.settings import Settings, load_settings

SESSIONS = 16
"""One turn of a reconstructor: neighbours on the stream are of different sessions."""
WIDTH, HEIGHT = 160, 120
SAMPLES = 500
STATE_VALUES = 16


def accepted_frames(
    count: int, *, width: int = WIDTH, height: int = HEIGHT, samples: int = SAMPLES
) -> list[FrameAccepted]:
    """Of 16 sessions in turn, as many squares each; what was sampled is noise."""
    settings, rng = load_settings(environment={}), np.random.default_rng(0)
    coords = first_set(settings, width=width, height=height, samples=samples).coords
    return [
        FrameAccepted(
            session_id=f"bench-{number % SESSIONS}",
            checkpoint_key="bench",
            gateway_id="bench",
            frame_id=settings.server.history_frames + number // SESSIONS,
            coordinate_set_id=1,
            width=width,
            height=height,
            samples_bytes=pack_pixels(np.insert(coords[:, :2], 2, rng.random(len(coords)), axis=1)),
            footprint_bytes=pack_footprints(coords[:, 2]),
            footprints=True,
            state_bytes=pack_floats(rng.random(STATE_VALUES)),
            client_time_secs=0.0,
            received_at_secs=time.time(),
        )
        for number in range(count)
    ]


def first_set(settings: Settings, *, width: int, height: int, samples: int) -> CoordinateSet:
    """As many squares, where nothing is known of a picture yet."""
    return CoordinateSet(
        frame_id=-1,
        coordinate_set_id=1,
        coords=AdaptiveUVSampler(settings.sampling, footprints=True).sample(
            NOTHING_KNOWN,
            count=samples,
            width=width,
            height=height,
            rng=np.random.default_rng(settings.sampling.seed),
        ),
        footprints=True,
        importance=None,
        model_version="none",
        predicted_psnr_db=None,
    )


def fill(redis: Redis, messages: Sequence[Message]) -> None:
    """Put them on their streams; beside frames, the memory that a reconstructor reads."""
    with redis.pipeline(transaction=False) as pipe:
        for message in messages[:SESSIONS]:
            if isinstance(message, FrameAccepted):
                for frame_id in range(message.frame_id):
                    pipe.lpush(history_key(message.session_id), past_of(message, frame_id))
        for message in messages:
            pipe.xadd(message.stream, {FIELD: message.encode()})
        pipe.execute()


def past_of(frame: FrameAccepted, frame_id: int) -> bytes:
    """The same samples as the memory of a session has them, of another frame."""
    return PastSamples(
        frame_id=frame_id,
        width=frame.width,
        height=frame.height,
        samples_bytes=frame.samples_bytes,
        footprint_bytes=frame.footprint_bytes,
    ).encode()
