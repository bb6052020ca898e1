"""Entry point of the `sgaps` command."""

from __future__ import annotations

import os
import sys

from sgaps.errors import SgapsError
from sgaps_cli.begin import end_unwritten, imported, print_any_name


def main() -> None:
    """Errors made on purpose are told in one line."""
    # FFmpeg would print lines of its own about a broken video beside ours.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    print_any_name()
    try:
        imported("sgaps_cli.commands").app()
    except SgapsError as error:
        sys.stderr.write(f"sgaps: {error}\n")
        sys.exit(1)
    except OSError as error:
        end_unwritten(error)
    except KeyboardInterrupt:
        sys.exit(130)
