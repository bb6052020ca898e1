"""`sgaps replay`: a page on which recordings are looked through, rebuilt by two checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sgaps.settings import load_settings
from sgaps_cli.recordings_folder import recorded_sessions
from sgaps_cli.replay.errors import ReplayError


def replay_recordings(
    folder: Path | None, *, port: int, browser: bool, overrides: Sequence[str]
) -> None:
    """Serve the page until Ctrl-C. Raises SgapsError."""
    settings = load_settings(overrides)
    found, _ = recorded_sessions(folder or settings.data.recordings_dir)
    try:
        from sgaps_cli.replay.server import serve  # noqa: PLC0415 - no other command needs torch
    except ModuleNotFoundError as error:
        raise ReplayError(
            f"sgaps replay needs {error.name}: pip install 'sgaps-cli[replay]'"
        ) from error
    serve(found, settings, port=port, browser=browser)
