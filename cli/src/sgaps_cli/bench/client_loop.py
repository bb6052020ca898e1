"""What a client does with its picture: `python -m sgaps_cli.bench.client_loop SIDE SOURCE FRAMES`.

SIDE is `ours`: the picture is sampled at 500 squares and the frame written in its binary form, by
sgaps_client. Or it is a number: libx264 has so many bytes for each whole picture, by the encoder
that a model is evaluated beside. Both begin with the same pictures in gray, which are drawn before
anything is measured. Prints what was used, and the bytes of a frame.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice

from sgaps.protocol import binary_codec
from sgaps.settings import load_settings
from sgaps_cli.bench.alternatives import Spent
from sgaps_cli.bench.frames import SAMPLES, first_set
from sgaps_cli.bench.processes import Meter
from sgaps_client import outgoing
from sgaps_client.sources import GameFrame, open_source
from sgaps_client.state import ClientState
from trainer.baselines import av_frame, x264_encoder

Encode = Callable[[int, GameFrame], bytes]
"""What is sent for a frame of this number."""


def drawn(source: str, count: int) -> list[GameFrame]:
    """The first frames of a game. Raises SourceError."""
    opened = open_source(source)
    try:
        return list(islice(opened.frames(), count))
    finally:
        opened.close()


def gather(first: GameFrame) -> Encode:
    """Squares alone, as `SgapsClient.send_frame` does it; where they lie changes no cost."""
    height, width = first.image.shape
    chosen = first_set(load_settings(environment={}), width=width, height=height, samples=SAMPLES)
    state = ClientState(
        coords=binary_codec.as_sent(chosen.coords),
        coordinate_set_id=chosen.coordinate_set_id,
        max_state_dim=len(first.state),
    )

    def encode(number: int, frame: GameFrame) -> bytes:
        sampled = outgoing.sampled_frame(
            frame.image, frame.state, frame_id=number, client_state=state
        )
        return binary_codec.encode_frame(sampled)

    return encode


def x264(first: GameFrame, bytes_per_frame: int) -> Encode:
    """The whole picture, copied into a frame of the encoder's."""
    height, width = first.image.shape
    encoder = x264_encoder(width, height, bytes_per_frame)
    return lambda _, frame: b"".join(map(bytes, encoder.encode(av_frame(frame.image))))


def main(side: str, source: str, count: int) -> Spent:
    """The first frame warms up: of it only the bytes count."""
    first, *others = drawn(source, count + 1)
    encode = gather(first) if side == "ours" else x264(first, int(side))
    sent_bytes = len(encode(0, first))
    with Meter(count) as meter:
        for number, frame in enumerate(others, 1):
            sent_bytes += len(encode(number, frame))
    return Spent(bytes_per_frame=sent_bytes / (count + 1), **vars(meter.work))


if __name__ == "__main__":
    print(json.dumps(asdict(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
