"""Identifiers that come from outside and become file, stream and HDF5 names."""

from __future__ import annotations

import re

ID_PATTERN = "[A-Za-z0-9_-]{1,64}"


def is_valid_id(text: str) -> bool:
    """Whether the whole text is a legal checkpoint key or session id."""
    return re.fullmatch(ID_PATTERN, text) is not None
