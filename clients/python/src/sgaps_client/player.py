"""Plays a source of frames through a running system, in real time, and sums up how it went."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain

import cv2
import httpx
import numpy as np
from numpy.typing import NDArray

from sgaps.protocol.content import CoordinateSet
from sgaps.whole_frames import picture_psnr_db
from sgaps_client.address import http_client, http_url
from sgaps_client.client import SgapsClient
from sgaps_client.pictures import decoded_png, encoded_png
from sgaps_client.sources import GameFrame, Source
from sgaps_client.state import SessionConfig, note

TRUE_FRAMES_KEPT = 100
LAST_ANSWERS_SECS = 8.0
STOP_GRACE_SECS = 3.0
LOOK_EVERY_SECS = 1.0
HTTP_TIMEOUT_SECS = 5.0


@dataclass(frozen=True, kw_only=True)
class PlaySummary:
    """How a play went. Lists and percentiles are of the newest `state.NEWEST_KEPT`."""

    source: str
    checkpoint_key: str
    sessions: list[str]
    sent: int
    accepted: int
    """Frames the gateway took in."""
    answered: int
    """Frames answered with coordinates."""
    recorded: int
    """Frames the recorder has on disk."""
    lost: int
    """Frames that were on the wire when a connection broke."""
    dropped: int
    """Frames that were not sent: the network was slower than the game."""
    refusals: list[str]
    reconnections: int
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    psnr_db: float | None
    """Newest reconstruction looked at against the true frame it belongs to."""
    psnr_mean_db: float | None
    frames_per_sec: float
    bytes_up: int
    bytes_down: int
    model_version: str


@dataclass(kw_only=True)
class PlayStats:
    """What has happened so far; the live line reads it. Of each list the newest are kept."""

    started_at_secs: float = field(default_factory=time.monotonic)
    sessions: list[str] = field(default_factory=list)
    sent: int = 0
    accepted: int = 0
    answered: int = 0
    recorded: int = 0
    lost: int = 0
    dropped: int = 0
    refusals: list[str] = field(default_factory=list)
    reconnections: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    psnrs_db: list[float] = field(default_factory=list)
    psnr_count: int = 0
    psnr_sum_db: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    model_version: str = "none"

    @property
    def bytes_per_frame(self) -> float:
        """Bytes up for each frame sent, keyframes included."""
        return self.bytes_up / max(1, self.sent)

    @property
    def psnr_mean_db(self) -> float | None:
        """Of all pictures looked at, also of those whose PSNR is not kept."""
        return self.psnr_sum_db / self.psnr_count if self.psnr_count else None

    def note_psnr(self, psnr_db: float) -> None:
        note(self.psnrs_db, psnr_db)
        self.psnr_count += 1
        self.psnr_sum_db += psnr_db


@dataclass(frozen=True, kw_only=True)
class PlayOptions:
    """How to play."""

    url: str
    checkpoint_key: str
    frames: int | None
    session_frames: int | None
    """Begin a new session after so many frames; None = never."""
    auth_token: str | None
    wait_secs: float = math.inf
    """Give up where the first session has not begun by then."""


async def play(
    source: Source,
    options: PlayOptions,
    *,
    stop: asyncio.Event,
    report: Callable[[PlayStats], None] = lambda _: None,
) -> PlaySummary:
    """Play until the source, the frames or the patience end.

    Raises ProtocolError, NoSession, SettingsError, SourceError.
    """
    stats = PlayStats()
    reporting = asyncio.create_task(_report_every_second(stats, report))
    playing = asyncio.create_task(_play_sessions(source, options, stats, stop))
    try:
        await _until_done_or_stopped(playing, stop)
    finally:
        reporting.cancel()
        playing.cancel()
        await asyncio.wait({playing})
    if not playing.cancelled():
        playing.result()
    return _summary(source, options, stats)


async def _until_done_or_stopped(playing: asyncio.Task[None], stop: asyncio.Event) -> None:
    """A play that waits for a server that is not there must still end when it is told to."""
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    await asyncio.wait({playing}, timeout=STOP_GRACE_SECS)


async def _play_sessions(
    source: Source, options: PlayOptions, stats: PlayStats, stop: asyncio.Event
) -> None:
    frames = source.frames()
    while not stop.is_set() and (options.frames is None or stats.sent < options.frames):
        first = next(frames, None)  # in hand: a session begins only if there is something for it
        if first is None:
            return
        await _SessionPlay(source, options, stats).run(chain([first], frames), stop)


class _SessionPlay:
    """One session of a play."""

    def __init__(self, source: Source, options: PlayOptions, stats: PlayStats) -> None:
        self._options = options
        self._stats = stats
        self._sent_at_secs: OrderedDict[int, float] = OrderedDict()
        self._truths: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._sent = 0
        self._client = SgapsClient(
            SessionConfig(
                url=options.url,
                checkpoint_key=options.checkpoint_key,
                width=source.width,
                height=source.height,
                state_dim=source.state_dim,
                auth_token=options.auth_token,
            ),
            on_answer=self._note_answer,
            wait_secs=math.inf if stats.sessions else options.wait_secs,
        )

    async def run(self, frames: Iterator[GameFrame], stop: asyncio.Event) -> None:
        """Play this session, until it is full or the source ends."""
        async with self._client, self._http() as http:
            looking = asyncio.create_task(self._look_every_second(http))
            try:
                await self._send_all(frames, stop)
                if not stop.is_set():
                    await self._wait_for_the_last()
                await self._look(http)
            finally:
                looking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await looking
                self._take_account()

    def _http(self) -> httpx.AsyncClient:
        return http_client(
            httpx.AsyncClient,
            http_url(self._options.url),
            token=self._options.auth_token,
            timeout_secs=HTTP_TIMEOUT_SECS,
        )

    async def _send_all(self, frames: Iterator[GameFrame], stop: asyncio.Event) -> None:
        next_at_secs = time.monotonic()
        while not stop.is_set() and not self._is_full():
            frame = next(frames, None)
            if frame is None:
                return
            await self._send(frame)
            next_at_secs = max(
                next_at_secs + 1 / self._client.state.target_fps, time.monotonic() - 1
            )
            await asyncio.sleep(max(0.0, next_at_secs - time.monotonic()))

    def _is_full(self) -> bool:
        limits = (
            (self._options.session_frames, self._sent),
            (self._options.frames, self._stats.sent),
        )
        return any(limit is not None and count >= limit for limit, count in limits)

    async def _send(self, frame: GameFrame) -> None:
        keyframe = encoded_png(frame.image) if self._client.wants_keyframe() else None
        sent = await self._client.send_frame(frame.image, frame.state, keyframe_png=keyframe)
        if sent is None:
            return
        self._sent_at_secs[sent.frame_id] = sent.sent_at_secs
        self._truths[sent.frame_id] = frame.image
        for kept in (self._sent_at_secs, self._truths):
            while len(kept) > TRUE_FRAMES_KEPT:
                kept.popitem(last=False)
        self._sent += 1
        self._stats.sent += 1
        self._count_bytes()

    def _count_bytes(self) -> None:
        state, stats = self._client.state, self._stats
        stats.bytes_up += state.bytes_up
        stats.bytes_down += state.bytes_down
        state.bytes_up = state.bytes_down = 0

    def _note_answer(self, answer: CoordinateSet) -> None:
        sent_at_secs = self._sent_at_secs.pop(answer.frame_id, None)
        if sent_at_secs is not None:
            note(self._stats.latencies_ms, (time.monotonic() - sent_at_secs) * 1000)
        self._stats.answered += 1
        self._stats.model_version = answer.model_version

    async def _wait_for_the_last(self) -> None:
        """Give the last answers and the recorder time to arrive."""
        deadline_secs = time.monotonic() + LAST_ANSWERS_SECS
        while time.monotonic() < deadline_secs and not self._client.state.account.is_complete:
            await asyncio.sleep(0.05)

    async def _look_every_second(self, http: httpx.AsyncClient) -> None:
        while True:
            await self._look(http)
            await asyncio.sleep(LOOK_EVERY_SECS)

    async def _look(self, http: httpx.AsyncClient) -> None:
        """Fetch the newest reconstruction and compare it with its true frame."""
        # A proxy may answer anything: no number, no picture, or one of another size.
        with contextlib.suppress(httpx.HTTPError, ValueError, TypeError, cv2.error):
            reply = await http.get(self._api("/reconstruction.png"))
            truth = self._truths.get(int(reply.headers.get("X-Frame-Id", -1)))
            if reply.status_code == httpx.codes.OK and truth is not None:
                self._stats.note_psnr(picture_psnr_db(decoded_png(reply.content), truth))

    def _take_account(self) -> None:
        """Add what became of this session's frames to the summary."""
        state, stats = self._client.state, self._stats
        self._count_bytes()
        note(stats.refusals, *state.refusals)
        stats.dropped += state.frames_dropped
        for account in state.accounts:
            note(stats.sessions, account.session_id)
            stats.reconnections += account.resumed
            stats.accepted += account.accepted
            stats.recorded += account.recorded
            stats.lost += account.lost

    def _api(self, path: str) -> str:
        base = http_url(self._options.url)
        return f"{base}/api/sessions/{self._client.state.account.session_id}{path}"


async def _report_every_second(stats: PlayStats, report: Callable[[PlayStats], None]) -> None:
    while True:
        report(stats)
        await asyncio.sleep(LOOK_EVERY_SECS)


def _summary(source: Source, options: PlayOptions, stats: PlayStats) -> PlaySummary:
    latencies_ms = np.array(stats.latencies_ms)
    secs = time.monotonic() - stats.started_at_secs
    return PlaySummary(
        source=source.name,
        checkpoint_key=options.checkpoint_key,
        sessions=stats.sessions,
        sent=stats.sent,
        accepted=stats.accepted,
        answered=stats.answered,
        recorded=stats.recorded,
        lost=stats.lost,
        dropped=stats.dropped,
        refusals=stats.refusals,
        reconnections=stats.reconnections,
        latency_p50_ms=float(np.percentile(latencies_ms, 50)) if latencies_ms.size else None,
        latency_p99_ms=float(np.percentile(latencies_ms, 99)) if latencies_ms.size else None,
        psnr_db=stats.psnrs_db[-1] if stats.psnrs_db else None,
        psnr_mean_db=stats.psnr_mean_db,
        frames_per_sec=stats.sent / secs,
        bytes_up=stats.bytes_up,
        bytes_down=stats.bytes_down,
        model_version=stats.model_version,
    )
