"""What hypothesis makes of the messages of the protocol."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from sgaps.protocol.content import CoordinateSet, Importance, SampledFrame
from sgaps.protocol.messages import MAX_FRAME_ID, MAX_SET_ID, Resolution
from sgaps.sampling.footprints import FOOTPRINTS_PX

floats = st.floats(allow_nan=False, allow_infinity=False)
units = st.floats(0, 1, width=32)
ids = st.integers(0, MAX_FRAME_ID)


@st.composite
def frames(draw: st.DrawFn) -> SampledFrame:
    count = draw(st.integers(1, 40))
    samples = [
        (draw(units), draw(units), draw(units), draw(st.sampled_from(FOOTPRINTS_PX)))
        for _ in range(count)
    ]
    state = draw(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=9))
    return SampledFrame(
        frame_id=draw(ids),
        coordinate_set_id=draw(st.integers(0, MAX_SET_ID)),
        samples=np.array(samples, np.float32),
        state=np.array(state, np.float32),
        resolution=Resolution(width=draw(st.integers(1, 8192)), height=draw(st.integers(1, 8192))),
        timestamp=draw(floats),
    )


@st.composite
def coordinate_sets(draw: st.DrawFn) -> CoordinateSet:
    footprints = draw(st.booleans())
    sides = st.sampled_from(FOOTPRINTS_PX) if footprints else st.just(1)
    rows = draw(st.lists(st.tuples(units, units, sides), max_size=40))
    width, height = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    data = draw(st.binary(min_size=width * height, max_size=width * height))
    shown = Importance(width=width, height=height, data=data)
    return CoordinateSet(
        frame_id=draw(st.integers(-1, MAX_FRAME_ID)),
        coordinate_set_id=draw(st.integers(0, MAX_SET_ID)),
        coords=np.array(rows, np.float32).reshape(-1, 3),
        footprints=footprints,
        importance=draw(st.none() | st.just(shown)),
        model_version=draw(st.text(max_size=20)),
        predicted_psnr_db=draw(st.none() | st.floats(0, 99, width=32)),
    )
