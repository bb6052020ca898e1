"""`python -m sgaps.health NAME`: whether this instance of a service is ready, by its heartbeat.

For a container's health check: the settings are those of the service itself. Exit status 0 where
it is ready; else 1, and the reason.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from sgaps.bus import RedisBus
from sgaps.errors import SgapsError
from sgaps.service import find_heartbeat
from sgaps.settings import Settings, load_settings


def main(argv: Sequence[str] | None = None) -> int:
    """Print whether it is ready; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sgaps.health", description=__doc__)
    parser.add_argument("name", help="gateway, reconstructor, sampler, recorder or trainer")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of conf/")
    asked = parser.parse_args(argv)
    try:
        reason = asyncio.run(_why_not_ready(asked.name, load_settings(asked.overrides)))
    except SgapsError as error:
        reason = str(error)
    sys.stdout.write(f"{asked.name}: {reason or 'ready'}\n")
    return 1 if reason else 0


async def _why_not_ready(name: str, settings: Settings) -> str:
    bus = RedisBus(settings.bus)
    try:
        heartbeat = await find_heartbeat(bus, name, settings.instance)
    finally:
        await bus.close()
    if heartbeat is None:
        return f"{settings.instance} has no heartbeat"
    return "" if heartbeat.ready else heartbeat.reason or "it does not say that it is ready"


if __name__ == "__main__":
    sys.exit(main())
