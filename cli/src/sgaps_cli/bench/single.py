"""The simplest server that answers: `python -m sgaps_cli.bench.single PORT`.

One process without a broker: a frame is decoded, rebuilt by the shipped checkpoint and answered
where it came in, one after the other. Sessions are in its memory alone; nothing is checked,
recorded, counted or resumed, no frame gives way to a newer one, and no checkpoint is swapped.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from reconstructor.frame import Reconstructor
from reconstructor.neural import NeuralReconstructor
from reconstructor.worker import frame_input, summary
from sampler.choose import StoredCoordinates, choose, draft
from sgaps.messages import FrameAccepted
from sgaps.model import stores_of
from sgaps.packing import Float32, pack_floats, pack_footprints, pack_pixels
from sgaps.protocol import binary_codec, json_codec
from sgaps.protocol.content import CoordinateSet, SampledFrame
from sgaps.protocol.messages import SessionStart
from sgaps.sampling.footprints import Coords
from sgaps.settings import Settings, load_settings
from sgaps_cli.bench.floor import begin, serve
from sgaps_cli.bench.frames import first_set

SETS_KEPT = 16


class Session:
    """What a client was told, and what it has shown."""

    def __init__(self, first: CoordinateSet, settings: Settings) -> None:
        self._settings = settings
        self._sets: dict[int, Coords] = {}
        self._stored: StoredCoordinates | None = None
        self._past: deque[tuple[int, Float32]] = deque(maxlen=settings.model.history_frames)
        self._keep(first)

    def answer(self, raw: bytes, model: Reconstructor) -> bytes:
        """Where the next frame is to be sampled. Raises ProtocolError."""
        values = binary_codec.decode_client_message(raw)
        if not isinstance(values, binary_codec.ValuesOfFrame):
            raise TypeError("a frame was expected")
        frame = _accepted(values.at(self._sets[values.coordinate_set_id]))
        (rebuilt,) = model.reconstruct([frame_input(frame, tuple(self._past))])
        self._past.appendleft((frame.frame_id, frame.samples))
        told = summary(frame, rebuilt, time.time(), 0.0, "")
        drafted = draft(told, self._settings)
        chosen, self._stored = choose(told, drafted, self._stored, self._settings)
        answer = CoordinateSet(
            frame_id=chosen.frame_id,
            coordinate_set_id=chosen.coordinate_set_id,
            coords=chosen.coords,
            footprints=True,
            importance=None,
            model_version=chosen.model_version,
            predicted_psnr_db=chosen.predicted_psnr_db,
        )
        self._keep(answer)
        return binary_codec.encode_coordinates(answer)

    def _keep(self, chosen: CoordinateSet) -> None:
        """As the client reads it; the oldest is forgotten."""
        self._sets[chosen.coordinate_set_id] = binary_codec.as_sent(chosen.coords)
        if len(self._sets) > SETS_KEPT:
            del self._sets[next(iter(self._sets))]


def _accepted(frame: SampledFrame) -> FrameAccepted:
    """In the form that model and sampler know; there is but one session for each socket."""
    return FrameAccepted(
        session_id="single",
        checkpoint_key="bench",
        gateway_id="single",
        frame_id=frame.frame_id,
        coordinate_set_id=frame.coordinate_set_id,
        width=frame.resolution.width,
        height=frame.resolution.height,
        samples_bytes=pack_pixels(frame.samples),
        footprint_bytes=pack_footprints(frame.samples[:, 3]),
        footprints=True,
        state_bytes=pack_floats(frame.state),
        client_time_secs=frame.timestamp,
        received_at_secs=time.time(),
    )


def app(model: Reconstructor, settings: Settings) -> Starlette:
    """The whole server."""
    model_thread = ThreadPoolExecutor(max_workers=1)

    async def stream(socket: WebSocket) -> None:
        await socket.accept(subprotocol=binary_codec.SUBPROTOCOL)
        try:
            session = await _begun(socket, settings)
            while True:
                raw = await socket.receive_bytes()
                loop = asyncio.get_running_loop()
                await socket.send_bytes(
                    await loop.run_in_executor(model_thread, session.answer, raw, model)
                )
        except WebSocketDisconnect:
            pass

    return Starlette(routes=[WebSocketRoute("/ws/stream", stream)])


async def _begun(socket: WebSocket, settings: Settings) -> Session:
    start = json_codec.decode_client_message(await socket.receive_text())
    if not isinstance(start, SessionStart):
        raise TypeError("a session was to begin")
    first = first_set(
        settings,
        width=start.resolution.width,
        height=start.resolution.height,
        samples=settings.sampling.default_sample_count,
    )
    await begin(socket, first)
    return Session(first, settings)


def main(port: int) -> None:
    # One's own checkpoints are left out, and importance is what `sgaps up` has.
    settings = load_settings(["importance=learned", "data.checkpoints_dir=none"], environment={})
    model = NeuralReconstructor(stores_of(settings.data), settings)
    model.warm_up()
    serve(app(model, settings), port)


if __name__ == "__main__":
    main(int(sys.argv[1]))
