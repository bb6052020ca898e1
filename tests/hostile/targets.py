"""What is fuzzed: every place where bytes from outside become messages.

A target takes any bytes. It returns where they are a message that keeps its promises, raises a
ProtocolError or MessageError where they are none, and nothing else, ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gateway.pictures import check_picture
from hostile import seeds
from sgaps.errors import MessageError, ProtocolError
from sgaps.keys import PastSamples
from sgaps.messages import CoordinatesChosen, FrameAccepted, FrameReconstructed
from sgaps.protocol import binary_codec, json_codec
from sgaps.protocol.binary_codec import ValuesOfFrame
from sgaps.protocol.content import CoordinateSet, WholeFrame
from sgaps.protocol.messages import Error, FrameData, Keyframe, Resolution, UvCoordinates
from sgaps.sampling.footprints import FOOTPRINTS_PX, sample_image

MAX_REASON_CHARS = 400

Target = Callable[[bytes], None]

IMAGE = np.arange(48, dtype=np.uint8).reshape(6, 8)


def json_of_client(data: bytes) -> None:
    """A message of a client: written and read again it is the same."""
    message = json_codec.decode_client_message(data)
    written = json_codec.encode(message)
    assert json_codec.encode(json_codec.decode_client_message(written)) == written
    if isinstance(message, FrameData):
        frame = json_codec.sampled_frame(message)
        assert np.isfinite(frame.samples).all()
        assert np.isfinite(frame.state).all()
        assert ((frame.samples[:, :3] >= 0) & (frame.samples[:, :3] <= 1)).all()
    elif isinstance(message, Keyframe):
        json_codec.whole_frame(message)


def json_of_server(data: bytes) -> None:
    """A message of a server, and a picture sampled where it says."""
    message = json_codec.decode_server_message(data)
    assert json_codec.decode_server_message(json_codec.encode(message)) == message
    if isinstance(message, UvCoordinates):
        _sample(json_codec.coordinate_set(message))


def binary_of_client(data: bytes) -> None:
    """Every message has one form only: what is read is written as it came."""
    message = binary_codec.decode_client_message(data)
    if isinstance(message, WholeFrame):
        assert binary_codec.encode_keyframe(message) == data
        return
    assert isinstance(message, ValuesOfFrame)
    frame = message.at(np.ones((len(message.values), 3), np.float32))
    assert np.isfinite(frame.state).all()
    assert binary_codec.encode_frame(frame) == data


def binary_of_server(data: bytes) -> None:
    chosen = binary_codec.decode_server_message(data)
    assert binary_codec.encode_coordinates(chosen) == data
    _sample(chosen)


def _sample(chosen: CoordinateSet) -> None:
    samples = sample_image(IMAGE, chosen.coords)
    assert np.isin(samples[:, 3], FOOTPRINTS_PX).all()
    assert ((samples[:, :3] >= 0) & (samples[:, :3] <= 1)).all()


def keyframe(data: bytes) -> None:
    """The gateway's check of a picture, PNG or JPEG as it begins."""
    width, height = seeds.PICTURE_SIZE
    encoding = binary_codec.ENCODINGS[1 + data.startswith(b"\xff\xd8")]
    check_picture(data, encoding, Resolution(width=width, height=height))


def stream_entry(data: bytes) -> None:
    """An entry of any stream, arrays included."""
    refusal = None
    for kind in STREAM_KINDS:
        try:
            entry = kind.decode(data)
        except MessageError as error:
            refusal = error
            continue
        assert kind.decode(entry.encode()).encode() == entry.encode()
        match entry:
            case FrameAccepted():
                _ = entry.samples, entry.state
            case PastSamples():
                _ = entry.samples
            case FrameReconstructed():
                _ = entry.entropy, entry.log_error
            case CoordinatesChosen():
                _ = entry.coords
        return
    assert refusal is not None
    raise refusal


STREAM_KINDS = tuple(type(entry) for entry in seeds.stream_entries())


@dataclass(frozen=True, kw_only=True)
class Fuzzed:
    """A target, where to begin, and words that its inputs are made of."""

    target: Target
    seeds: list[bytes]
    words: tuple[bytes, ...]


JSON_WORDS = tuple(
    word.encode()
    for word in (
        *(
            '"type":',
            '"frame_data"',
            '"keyframe"',
            '"heartbeat"',
            '"session_start"',
            '"timestamp":',
        ),
        *('"uv_coordinates"', '"coords":', '"importance_map":', '"predicted_psnr":', '"error"'),
        *(
            '"resolution":',
            '"pixels":',
            '"state_vector":',
            '"frame_id":',
            '"data":',
            '"footprint":',
        ),
        *(
            "1e400",
            "1e39",
            "-1",
            "NaN",
            "Infinity",
            "null",
            "true",
            "\\ud800",
            "\\u0000",
            "[[",
            "{}",
        ),
        *("9007199254740993", "1" * 40, "0.5", "[0,0,0]", ",", "64", "é"),
    )
)
BINARY_WORDS = (b"SG\1\1", b"SG\1\2", b"SG\1\3", b"\xff\xff\xff\xff", b"\0\0\xc0\x7f")
PICTURE_WORDS = (b"IHDR", b"IDAT", b"IEND", b"iCCP", b"zTXt", b"tRNS", b"PLTE", b"\xff\xda")
STREAM_WORDS = (b"samples_bytes", b"\xcf" + b"\xff" * 8, b"\xdf\xff\xff\xff\xff", b"\x91" * 99)


def targets() -> dict[str, Fuzzed]:
    """By name."""
    texts = [text.encode() for text in seeds.TEXTS_OF_CLIENTS]
    replies = [text.encode() for text in seeds.TEXTS_OF_SERVERS]
    up = seeds.golden("frame_data") + seeds.golden("keyframe")
    down = seeds.golden("uv_coordinates")
    entries = [entry.encode() for entry in seeds.stream_entries()]
    pictures = seeds.pictures()
    return {
        "json_of_client": Fuzzed(target=json_of_client, seeds=texts, words=JSON_WORDS),
        "json_of_server": Fuzzed(target=json_of_server, seeds=replies, words=JSON_WORDS),
        "binary_of_client": Fuzzed(target=binary_of_client, seeds=up, words=BINARY_WORDS),
        "binary_of_server": Fuzzed(target=binary_of_server, seeds=down, words=BINARY_WORDS),
        "keyframe": Fuzzed(target=keyframe, seeds=pictures, words=PICTURE_WORDS),
        "stream_entry": Fuzzed(target=stream_entry, seeds=entries, words=STREAM_WORDS),
    }


def outcome_of(target: Target, data: bytes) -> str:
    """ "taken", or the name of the refusal, which must itself be fit to be sent back."""
    try:
        target(data)
    except ProtocolError as error:
        refusal = error
    except MessageError:
        return "message_error"
    else:
        return "taken"
    assert len(refusal.message) <= MAX_REASON_CHARS
    json_codec.encode(Error(code=refusal.code, message=refusal.message))
    return refusal.code.value
