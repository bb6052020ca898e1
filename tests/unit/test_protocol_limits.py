"""The numbers behind the settings that docs/protocol.md names are those of conf/."""

from __future__ import annotations

import re
from functools import reduce

import numpy as np

from paths import ROOT
from sgaps.protocol import binary_codec, json_codec
from sgaps.protocol.content import CoordinateSet, Importance
from sgaps.protocol.messages import MAX_FRAME_ID, MAX_SET_ID
from sgaps.settings import Settings, load_settings

TEXT = (ROOT / "docs/protocol.md").read_text()
TOLD = re.findall(r"`((?:server\.|sampling\.|bus\.)?[a-z_]+)` \(([\d,]+)\)", TEXT)
NEEDED = {
    *("server.max_message_bytes", "server.max_frame_rate", "server.max_samples"),
    *("sampling.default_sample_count", "server.session_start_timeout_secs"),
    *("server.resume_window_secs", "server.ping_interval_secs", "server.client_timeout_secs"),
    *("server.max_keyframe_pixels", "server.max_viewers"),
}


def number(told: str) -> int:
    return int(told.replace(",", ""))


def test_the_defaults_that_are_told_are_the_settings() -> None:
    settings = load_settings(environment={})
    assert {name for name, _ in TOLD} >= NEEDED
    for name, told in TOLD:
        held: object = reduce(getattr, name.split("."), settings)
        assert number(told) == held, name


def test_the_longest_answers_are_shorter_than_is_told() -> None:
    """All digits, the longest names, and a map of the largest picture."""
    (row,) = re.findall(r"with 1,000 samples \| (.*) \|", TEXT)
    told = [number(each) for each in re.findall(r"\d+,\d+", row)]
    for at_most, size_bytes in zip(told, spent_bytes(load_settings(environment={})), strict=True):
        assert 0.8 * at_most < size_bytes < at_most


def spent_bytes(settings: Settings) -> list[int]:
    """In JSON and in binary, without and with an importance map."""
    height = settings.server.max_pixels // settings.model.query_stride**2 // 256
    shown = Importance(width=256, height=height, data=bytes(256 * height))
    answers = [longest(settings.server.max_samples, importance) for importance in (None, shown)]
    codecs = (json_codec, binary_codec)
    return [len(codec.encode_coordinates(answer)) for answer in answers for codec in codecs]


def longest(count: int, importance: Importance | None) -> CoordinateSet:
    coords = np.tile(np.array([0.123457, 0.765433, 64], np.float32), (count, 1))
    return CoordinateSet(
        frame_id=MAX_FRAME_ID,
        coordinate_set_id=MAX_SET_ID,
        coords=coords,
        footprints=True,
        importance=importance,
        model_version="v" * 128,
        predicted_psnr_db=27.123456789,
    )
