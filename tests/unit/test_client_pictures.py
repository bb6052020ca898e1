"""Pure parts of the client: PNG, names, sizes, resampling of pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgaps.protocol.ids import is_valid_id
from sgaps_client.address import http_url
from sgaps_client.pictures import decoded_png, encoded_png
from sgaps_client.sources import checkpoint_key
from sgaps_client.sources.base import fit_size, gray_from_bgr, gray_from_rgb


def test_png_keeps_every_pixel() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 9), dtype=np.uint8)
    np.testing.assert_array_equal(decoded_png(encoded_png(image)), image)


@given(st.text(min_size=1, max_size=200))
def test_every_source_name_has_a_legal_checkpoint_key(name: str) -> None:
    assert is_valid_id(checkpoint_key(name))


def test_checkpoint_keys_are_readable() -> None:
    assert checkpoint_key("doom/my_way_home") == "doom-my_way_home"


@pytest.mark.parametrize(
    ("width", "expected"), [(None, (320, 240)), (160, (160, 120)), (1, (1, 1))]
)
def test_another_width_keeps_the_aspect(width: int | None, expected: tuple[int, int]) -> None:
    assert fit_size((320, 240), width=width) == expected


def test_gray_is_bt601_luma() -> None:
    red, green, blue = np.eye(3, dtype=np.uint8)[:, None, None, :] * 255  # each (1, 1, 3), RGB
    assert [int(gray_from_rgb(p)[0, 0]) for p in (red, green, blue)] == [76, 150, 29]
    assert int(gray_from_bgr(red)[0, 0]) == 29


def test_the_http_address_beside_the_socket() -> None:
    assert http_url("ws://127.0.0.1:8000/ws/stream") == "http://127.0.0.1:8000"
    assert http_url("wss://play.example/ws/stream") == "https://play.example"
