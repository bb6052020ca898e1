"""From what a user types to an open source of frames."""

from __future__ import annotations

from pathlib import Path

from sgaps.errors import SourceError
from sgaps_client.sources.base import Source
from sgaps_client.sources.images import ImageSource
from sgaps_client.sources.video import VideoSource

KINDS = "doom/my_way_home, atari/pong, a video file, or a folder of PNG or JPEG files"


def open_source(spec: str, *, width: int | None = None, seed: int = 0) -> Source:
    """Open `doom/...`, `atari/...`, a video file or a folder of pictures.

    Another width than its own keeps the aspect: Doom draws some, Atari none, files are scaled.
    Games never end, files do. Raises SourceError naming what there is.
    """
    kind, _, game = spec.partition("/")
    if opened := GAMES.get(kind):
        return opened(game, width=width, seed=seed)
    path = path_of(spec)
    try:
        if path.is_dir():
            return ImageSource(path, width=width)
        if path.is_file():
            return VideoSource(path, width=width)
    except OSError as error:
        raise _unreadable(spec, error) from error
    raise SourceError(f"there is no source {spec!r}; give {KINDS}")


def path_of(spec: str) -> Path:
    """Of a file or folder, the home folder written as ~ too. Raises SourceError where nobody can
    say whether it is there, and of none."""
    if not spec:
        raise SourceError(f"the source is empty; give {KINDS}")
    try:
        path = Path(spec).expanduser()
        path.exists()  # for what it raises
    except RuntimeError as error:  # ~somebody, who is nobody here
        raise SourceError(f"there is no {spec}: {error}") from error
    except OSError as error:
        raise _unreadable(spec, error) from error
    return path


def _unreadable(spec: str, error: OSError) -> SourceError:
    return SourceError(f"{spec} cannot be read ({error.strerror})")


def is_game(spec: str) -> bool:
    """Whether it plays anew with each seed; a file is the same every time."""
    return spec.partition("/")[0] in GAMES


def _open_doom(scenario: str, *, width: int | None, seed: int) -> Source:
    try:
        from sgaps_client.sources.doom import DoomSource  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _missing("vizdoom", error) from error
    return DoomSource(scenario, width=width, seed=seed)


def _open_atari(game: str, *, width: int | None, seed: int) -> Source:
    try:
        from sgaps_client.sources.atari import AtariSource  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _missing("ale-py", error) from error
    return AtariSource(game, width=width, seed=seed)


def _missing(package: str, error: ImportError) -> SourceError:
    return SourceError(f"{package} is missing ({error}): pip install {package}")


GAMES = {"doom": _open_doom, "atari": _open_atari}
