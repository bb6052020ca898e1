"""`sgaps bench way`: where the time of a frame goes on its way, by the spans of its stages.

The services of `sgaps bench pipeline` trace every frame. `python -m sgaps_cli.bench.way FRAMES`
prints what came of it as JSON: a process of its own has OpenTelemetry.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from sgaps_cli.bench.collector import Seen, collecting
from sgaps_cli.bench.pipeline import play, services
from sgaps_cli.bench.processes import FIXED_MODEL, own_broker

LEGS = {
    "gateway takes the frame; the reconstructor has read it": ("accept", "reconstruct"),
    "a constant model": ("reconstruct",),
    "written; the sampler has read it": ("reconstruct", "sample"),
    "the next set drawn": ("sample",),
    "written; the gateway has read it": ("sample", "deliver"),
    "handed to the session": ("deliver",),
}
"""Of two stages: from the end of one to the beginning of the next; of accept from its beginning."""
SOCKETS = "both sockets, and the player"
WHOLE = "from the player to the player"


@dataclass(frozen=True, kw_only=True)
class Leg:
    """A piece of the way."""

    name: str
    p50_ms: float


def legs_of(spans: Iterable[Seen], whole_ms: float) -> list[Leg]:
    """Medians over the frames that have a span of each stage; the sockets have what is left."""
    frames: dict[str, dict[str, Seen]] = defaultdict(dict)
    for span in spans:
        frames[span.trace_id][span.stage] = span
    complete = [frame for frame in frames.values() if "deliver" in frame]
    legs = [
        Leg(name=name, p50_ms=float(np.median([_leg_ms(frame, stages) for frame in complete])))
        for name, stages in LEGS.items()
    ]
    rest = Leg(name=SOCKETS, p50_ms=whole_ms - sum(leg.p50_ms for leg in legs))
    return [*legs, rest, Leg(name=WHOLE, p50_ms=whole_ms)]


def _leg_ms(frame: dict[str, Seen], stages: Sequence[str]) -> float:
    first, last = frame[stages[0]], frame[stages[-1]]
    # The broker has a frame before its gateway hears of it, so that write has no end here.
    is_within = first is last or first.stage == "accept"
    begins_ns = first.start_ns if is_within else first.end_ns
    ends_ns = last.end_ns if first is last else last.start_ns
    return (ends_ns - begins_ns) / 1e6


def main(frames: int) -> list[Leg]:
    """`frames` are those of each of eight players. Raises BrokerError."""
    with own_broker() as url, collecting() as (endpoint, spans):
        os.environ |= {"SGAPS__TRACING__ENDPOINT": endpoint, "SGAPS__TRACING__SAMPLE_RATIO": "1"}
        with services(url, model=FIXED_MODEL) as (port, pids):
            played = play(port, pids, frames)
        return legs_of(spans, played.answers.p50_ms)


if __name__ == "__main__":
    print(json.dumps([asdict(leg) for leg in main(int(sys.argv[1]))]))
