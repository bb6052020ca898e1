"""A service that misbehaves as its instance is called; run as a process by the tests."""

from __future__ import annotations

import asyncio
import sys
import time

from sgaps import service as frame
from sgaps.errors import DiskFull

HANGS = "here it hangs\n"


async def main(service: frame.Service) -> None:
    match service.settings.instance:
        case "hangs" | "hangs_long":
            sys.stderr.write(HANGS)
            await asyncio.Event().wait()
        case "thread_hangs":
            await asyncio.to_thread(_hang)
        case "fails":
            raise DiskFull("the disk is gone")
        case "crashes":
            raise ZeroDivisionError


def _hang() -> None:
    sys.stderr.write(HANGS)
    time.sleep(60)


if __name__ == "__main__":
    frame.DRAIN_SECS = 30.0 if "instance=hangs_long" in sys.argv else 1.0
    sys.exit(frame.run_service("stuck", main))
