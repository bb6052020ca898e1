"""Variables of compose.yaml, as Compose reads them."""

from __future__ import annotations

import os
import re
from pathlib import Path

ENV_FILE = Path(".env")
"""Beside compose.yaml."""


def variable(name: str, default: str) -> str:
    """As the environment says, or the file; the default where neither does, or it is empty."""
    return os.environ.get(name, _in_env_file(name)) or default


def _in_env_file(name: str) -> str:
    """What it says last; empty where it does not name it."""
    line = rf"""^ *(?:export +)?{re.escape(name)} *= *(['"]?)(.*?)\1 *(?: #.*)?$"""
    try:
        told = re.findall(line, ENV_FILE.read_text(), re.MULTILINE)
    except (OSError, ValueError):  # ValueError: it is no text
        return ""
    quote, value = told[-1] if told else ("", "")
    return value if quote == "'" else os.path.expandvars(value)
