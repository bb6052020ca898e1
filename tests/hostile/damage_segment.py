"""`python -m hostile.damage_segment FILE COUNT`: read a segment with one bit flipped, COUNT times.

A process of its own: HDF5 is C, and what is feared is not an exception. Only bytes that say
something are changed: most of a small segment is the zeros between them. Prints how many were read
and how many refused, as JSON; ends early on anything else.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from sgaps.errors import RecordingError
from sgaps.recording import SegmentReader


def main(path: Path, count: int) -> None:
    whole = path.read_bytes()
    damaged_path = path.with_name("000001.h5")
    draw = random.Random(0)
    read = refused = 0
    used = [position for position, byte in enumerate(whole) if byte]
    for position in draw.sample(used, count):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << draw.randrange(8)
        damaged_path.write_bytes(damaged)
        try:
            with SegmentReader(damaged_path) as reader:
                list(reader)
            read += 1
        except RecordingError:
            refused += 1
    print(json.dumps({"read": read, "refused": refused}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
