"""A service that misbehaves as its instance is called; run as a process by the tests."""

from __future__ import annotations

import asyncio
import sys
import time

from sgaps import service as frame
from sgaps.errors import DiskFull

frame.DRAIN_SECS = 1.0


async def main(service: frame.Service) -> None:
    match service.settings.instance:
        case "hangs":
            await asyncio.Event().wait()
        case "thread_hangs":
            await asyncio.to_thread(time.sleep, 60)
        case "fails":
            raise DiskFull("the disk is gone")
        case "crashes":
            raise ZeroDivisionError


if __name__ == "__main__":
    sys.exit(frame.run_service("stuck", main))
