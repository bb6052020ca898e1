"""Fixtures shared by all tests: a real broker, settings that point at it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

from sgaps.settings import Settings, load_settings
from sgaps_cli import broker

# How long an example takes is a matter of the machine, and no test's.
hypothesis.settings.register_profile(
    "untimed",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _normal_arithmetic() -> Iterator[None]:
    """What runs the model flushes tiny floats in its thread; the next test wants them back."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def restored_logging() -> Iterator[None]:
    """For a test in whose own process a service says how to log."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook
    yield
    root.handlers[:], root.level, sys.excepthook = before
    logging.captureWarnings(False)
    for name in ("sgaps", "gateway"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Valkey of this test run, on a loopback port of its own."""
    folder = tmp_path_factory.mktemp("broker")
    server = broker.start(broker.find_program(), folder, log_file=folder / "log")
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def default_settings() -> Settings:
    """Composed once: it takes a fifth of a second."""
    return load_settings(environment={})


@pytest.fixture
def settings(default_settings: Settings, tmp_path: Path) -> Settings:
    """The default settings with the data under tmp_path."""
    below = {
        "recordings_dir": tmp_path / "recordings",
        "checkpoints_dir": tmp_path / "checkpoints",
        "shipped_dir": tmp_path / "shipped",
    }
    data = default_settings.data.model_copy(update=below)
    return default_settings.model_copy(update={"data": data})
