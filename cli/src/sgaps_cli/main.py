"""Entry point of the `sgaps` command."""

from __future__ import annotations

import errno
import os
import sys

from sgaps.errors import SgapsError
from sgaps_cli.begin import imported


def main() -> None:
    """Errors made on purpose are told in one line."""
    # FFmpeg would print lines of its own about a broken video beside ours.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        imported("sgaps_cli.commands").app()
    except SgapsError as error:
        sys.stderr.write(f"sgaps: {error}\n")
        sys.exit(1)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        where = f"{error.filename}: " if error.filename else ""  # what is printed has no name
        sys.stderr.write(f"sgaps: {where}{error.strerror}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
