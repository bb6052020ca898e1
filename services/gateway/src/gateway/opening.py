"""How a session begins or goes on: what is looked up, and what the client is told."""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache
from math import ceil

import numpy as np

from gateway import intake
from gateway.limits import ClientLimits
from gateway.session import FEWEST_SETS_KEPT, NO_FRAME, SETS_KEPT_SECS, Session, new_session_id
from gateway.shared import Gateway
from sgaps.errors import ErrorCode, ProtocolError
from sgaps.keys import session_key
from sgaps.messages import first_set_id
from sgaps.protocol.content import CoordinateSet
from sgaps.protocol.messages import (
    FOOTPRINT,
    IMPORTANCE_MAP,
    Placement,
    Resolution,
    SamplingWish,
    SessionStart,
    SessionStartAck,
)
from sgaps.sampling.adaptive import AdaptiveUVSampler
from sgaps.sampling.footprints import Coords
from sgaps.sampling.importance import NOTHING_KNOWN
from sgaps.settings import SamplingSettings, Settings

WRITTEN_WITHIN_SECS = 1.0
"""A write that takes longer has most likely failed: its frame is one that nobody knows."""
LOOK_EVERY_SECS = 0.02
REMEMBERED_FIRST_SETS = 64
"""For as many kinds of clients; each takes 12 bytes a sample."""


async def find_or_create(start: SessionStart, gateway: Gateway, *, address: str) -> Session:
    """The session that a client asks for. Raises ProtocolError, BusError."""
    _check_size(start.resolution, gateway.settings.server.max_pixels)
    if start.resume_session_id is not None:
        return await _resume(start, start.resume_session_id, gateway, address=address)
    gateway.sessions.check_room(address)  # before anything is written
    session = _session_of(start, new_session_id(), gateway.settings, address=address)
    await gateway.bus.write(intake.remembering(session, session.last_frame_id))
    gateway.sessions.add(session)
    return session


def _check_size(resolution: Resolution, max_pixels: int) -> None:
    """A large picture takes a reconstructor's memory and time from all others."""
    pixels = resolution.width * resolution.height
    if pixels > max_pixels:
        raise ProtocolError(
            ErrorCode.BAD_MESSAGE,
            f"resolution: {resolution.width}x{resolution.height} are {pixels} pixels, at most "
            f"{max_pixels} (server.max_pixels): sample a smaller picture",
        )


async def _resume(
    start: SessionStart, session_id: str, gateway: Gateway, *, address: str
) -> Session:
    """The session as this gateway knows it, else as the broker remembers it."""
    fields = await _remembered(session_id, gateway)
    # Only now: while the broker was asked, another connection may have resumed it, or it expired.
    known = gateway.sessions.get(session_id)
    stored_key = fields.get("checkpoint_key", b"").decode()
    checkpoint_key = known.checkpoint_key if known else stored_key
    if not checkpoint_key:
        raise ProtocolError(
            ErrorCode.SESSION_NOT_FOUND, "no such session to resume; start a new one"
        )
    if checkpoint_key != start.checkpoint_key:
        raise ProtocolError(ErrorCode.SESSION_MISMATCH, f"the session plays {checkpoint_key!r}")
    if known is not None:
        gateway.sessions.check_resumable(known)
    session = known or _session_of(start, session_id, gateway.settings, address=address)
    stored_frame_id = int(fields.get("last_frame_id", NO_FRAME))
    is_new_here = (
        known is None
        or known.resolution != start.resolution
        or stored_frame_id > max(known.last_frame_id, known.used_frame_id)
    )
    session.address = address
    session.resolution = start.resolution
    session.footprints = _offers(start, FOOTPRINT)
    session.wants_importance = _offers(start, IMPORTANCE_MAP)
    session.sample_count, session.placement = _granted(start, gateway.settings)
    session.last_frame_id = max(session.last_frame_id, stored_frame_id)
    if is_new_here:  # answers to earlier frames were another gateway's, or lie in another picture
        session.last_answered_frame_id = session.last_frame_id
    if known is None:
        session.started_at_secs = float(fields["started_at_secs"])
        gateway.sessions.add(session)
    return session


async def _remembered(session_id: str, gateway: Gateway) -> dict[str, bytes]:
    """What the broker knows of a session, with the frame that is being written, if there is one.

    A socket's last write is done though it is cancelled with the socket, and a client that is not
    told of its frame would count it as lost.
    """
    ends_at_secs = time.monotonic() + WRITTEN_WITHIN_SECS
    while True:
        (fields,) = await gateway.bus.hashes([session_key(session_id)])
        known = gateway.sessions.get(session_id)
        stored_frame_id = int(fields.get("last_frame_id", NO_FRAME))
        is_known = known is None or known.used_frame_id <= stored_frame_id
        if is_known or time.monotonic() >= ends_at_secs:
            return fields
        await asyncio.sleep(LOOK_EVERY_SECS)


def acknowledgement(session: Session, gateway: Gateway, *, resumed: bool) -> SessionStartAck:
    """What a client is told first."""
    settings = gateway.settings
    loaded, version = gateway.outlook.serving_version(session.checkpoint_key)
    return SessionStartAck(
        session_id=session.session_id,
        checkpoint_loaded=loaded,
        sample_count=session.sample_count,
        max_state_dim=settings.max_state_dim,
        target_fps=gateway.outlook.target_fps(settings.asked_fps),
        model_version=version,
        coordinate_set_id=first_set_id(session.last_frame_id),
        keyframe_interval=intake.keyframe_interval(session.resolution, settings.server),
        resumed=resumed,
        last_frame_id=session.last_frame_id,
        features=_agreed_features(session),
    )


def first_coordinates(session: Session, gateway: Gateway, *, version: str) -> CoordinateSet:
    """What a session samples while nothing is known of its picture."""
    return CoordinateSet(
        frame_id=-1,
        coordinate_set_id=first_set_id(session.last_frame_id),
        coords=_coordinates_without_a_picture(
            gateway.settings.sampling,
            session.sample_count,
            session.resolution.width,
            session.resolution.height,
            footprints=session.footprints,
        ),
        footprints=session.footprints,
        importance=None,
        model_version=version,
        predicted_psnr_db=None,
    )


@lru_cache(maxsize=REMEMBERED_FIRST_SETS)
def _coordinates_without_a_picture(
    sampling: SamplingSettings, count: int, width: int, height: int, *, footprints: bool
) -> Coords:
    """The same for all that ask alike: after a restart hundreds of sessions come back at once, and
    the squares of a large picture take this loop 8 ms."""
    coords = AdaptiveUVSampler(sampling, footprints=footprints).sample(
        NOTHING_KNOWN,
        count=count,
        width=width,
        height=height,
        rng=np.random.default_rng(sampling.seed),
    )
    coords.flags.writeable = False
    return coords


def _session_of(
    start: SessionStart, session_id: str, settings: Settings, *, address: str
) -> Session:
    sample_count, placement = _granted(start, settings)
    return Session(
        session_id=session_id,
        address=address,
        checkpoint_key=start.checkpoint_key,
        resolution=start.resolution,
        client_name=start.client.name if start.client else "",
        wants_importance=_offers(start, IMPORTANCE_MAP),
        footprints=_offers(start, FOOTPRINT),
        sample_count=sample_count,
        limits=ClientLimits(settings),
        sets_kept=max(FEWEST_SETS_KEPT, ceil(SETS_KEPT_SECS * settings.asked_fps)),
        placement=placement,
    )


def _granted(start: SessionStart, settings: Settings) -> tuple[int, Placement]:
    """What a client gets of its wish: how many samples, and where."""
    wish = start.sampling or SamplingWish()
    wanted = wish.sample_count or settings.sampling.default_sample_count
    pixels = start.resolution.width * start.resolution.height
    return min(wanted, settings.server.max_samples, pixels), wish.placement


def _offers(start: SessionStart, feature: str) -> bool:
    return start.client is not None and feature in start.client.features


def _agreed_features(session: Session) -> list[str]:
    used = {IMPORTANCE_MAP: session.wants_importance, FOOTPRINT: session.footprints}
    return [name for name, is_used in used.items() if is_used]
