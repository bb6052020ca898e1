"""The least that a stage does: `python -m sgaps_cli.bench.hop REDIS_URL NUMBER`.

It reads one stream, adds what it read to the next, and acknowledges.
"""

from __future__ import annotations

import sys
from typing import Any

from redis import Redis

HOPS = 4
STREAMS = tuple(f"hop-{number}" for number in range(HOPS))
"""Who measures writes the first and reads the last, so there is a process for each but one."""
GROUP = "hop"
BATCH = 256
BLOCK_MILLIS = 1000


def main(url: str, number: int) -> None:
    redis = Redis.from_url(url)
    here, there = STREAMS[number], STREAMS[number + 1]
    while True:
        reply: Any = redis.xreadgroup(GROUP, "bench", {here: ">"}, count=BATCH, block=BLOCK_MILLIS)
        for _, rows in reply:
            pipe = redis.pipeline(transaction=False)
            for _, fields in rows:
                pipe.xadd(there, fields)
            pipe.xack(here, GROUP, *(entry_id for entry_id, _ in rows))
            pipe.execute()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
