"""`sgaps replay` and `sgaps export`: recordings rebuilt by checkpoints, on a page or as a video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    with _needing("replay"):
        from sgaps_cli.replay.server import serve  # noqa: PLC0415 - no other command needs torch
    serve(found, settings, port=port, browser=browser)


def export_recording(
    folder: Path | None,
    recording: str | None,
    *,
    checkpoint: str | None,
    out: Path | None,
    beside: bool,
    overrides: Sequence[str],
) -> Path:
    """Write a video; where it is. Raises SgapsError."""
    settings = load_settings(overrides)
    found, _ = recorded_sessions(folder or settings.data.recordings_dir)
    with _needing("export"):
        from sgaps_cli.replay.export import Wanted, export  # noqa: PLC0415 - as above
    wanted = Wanted(recording=recording, checkpoint=checkpoint, out=out, beside=beside)
    return export(found, wanted, settings)


@contextmanager
def _needing(command: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise ReplayError(
            f"sgaps {command} needs {error.name}: pip install 'sgaps-cli[replay]'"
        ) from error
