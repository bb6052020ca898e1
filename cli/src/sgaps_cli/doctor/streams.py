"""What waits in the streams: for whom, how many, since when; and the dead letters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from redis import exceptions as redis_errors
from redis.asyncio import Redis

from sgaps.bus import published_at_secs
from sgaps.messages import (
    CoordinatesChosen,
    DeadLetter,
    FrameAccepted,
    FrameReconstructed,
    SegmentSealed,
)
from sgaps_cli.doctor.finding import Finding
from sgaps_cli.doctor.system import OPTIONAL

BETWEEN_LOOKS_SECS = 1.0
LATE_SECS = 10.0
"""What waited longer in a stream, or in the hands of a consumer, is told."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """One group of one stream; or, without a group, the dead letters."""

    stream: str
    group: str
    waiting: int | None
    """Not given to anybody yet; None where the broker cannot say."""
    given_id: str
    """Of the newest entry that was given to somebody."""
    oldest_secs: float | None
    """Age of the oldest one that waits; None where there is none, or it may not be read."""
    pending: int
    """Given, and not acknowledged."""
    pending_secs: float
    """Age of the oldest of them."""
    is_stuck: bool = False
    """Nothing was taken between two looks, though something waits."""


async def look_at_streams(redis: Redis) -> list[Look]:
    """Every group of every stream, looked at twice. Raises RedisError."""
    before = {(look.stream, look.group): look for look in await _look(redis)}
    await asyncio.sleep(BETWEEN_LOOKS_SECS)
    return [_compared(look, before.get((look.stream, look.group))) for look in await _look(redis)]


def _compared(look: Look, before: Look | None) -> Look:
    stuck = bool(look.waiting and before and before.waiting and before.given_id == look.given_id)
    return Look(**{**vars(look), "is_stuck": stuck})


async def _look(redis: Redis) -> list[Look]:
    coordinates = [
        key.decode() async for key in redis.scan_iter(match=f"{CoordinatesChosen.STREAM}:*")
    ]
    named = [FrameAccepted.STREAM, FrameReconstructed.STREAM, SegmentSealed.STREAM]
    looks = [
        look for stream in [*named, *sorted(coordinates)] for look in await _groups(redis, stream)
    ]
    letters = await redis.xlen(DeadLetter.STREAM)
    dead = Look(
        stream=DeadLetter.STREAM,
        group="",
        waiting=letters,
        given_id="",
        oldest_secs=None,
        pending=0,
        pending_secs=0.0,
    )
    return [*looks, dead]


async def _groups(redis: Redis, stream: str) -> list[Look]:
    try:
        groups = await redis.xinfo_groups(stream)
    except redis_errors.NoPermissionError:
        raise
    except redis_errors.ResponseError:
        return []  # nobody has written to it yet
    return [await _of_group(redis, stream, group) for group in groups]


async def _of_group(redis: Redis, stream: str, told: dict[str, object]) -> Look:
    group, given_id = _text(told["name"]), _text(told["last-delivered-id"])
    pending = await redis.xpending(stream, group)
    lag = told.get("lag")
    return Look(
        stream=stream,
        group=group,
        waiting=lag if isinstance(lag, int) else None,
        given_id=given_id,
        oldest_secs=await _oldest_secs(redis, stream, given_id),
        pending=pending["pending"],
        pending_secs=_age_secs(_text(pending["min"])) if pending["pending"] else 0.0,
    )


async def _oldest_secs(redis: Redis, stream: str, given_id: str) -> float | None:
    """The monitor's user may not read entries: they hold what a game showed."""
    try:
        entries = await redis.xrange(stream, min=f"({given_id}", count=1)
    except redis_errors.NoPermissionError:
        return None
    return _age_secs(_text(entries[0][0])) if entries else None


def _age_secs(entry_id: str) -> float:
    return max(0.0, time.time() - published_at_secs(entry_id))


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def streams_found(looks: Sequence[Look]) -> Iterator[Finding]:
    """What is to be said of them."""
    for look in looks:
        yield _of_letters(look) if not look.group else _of_look(look)


def _of_letters(look: Look) -> Finding:
    return Finding(
        what="dead letters",
        well=not look.waiting,
        detail=f"{look.waiting or 'none'} in {look.stream}",
        cure="sgaps dead says which frames, and why each failed; once that is mended, "
        "sgaps dead --remove",
    )


def _of_look(look: Look) -> Finding:
    """Without a right to read entries, only that nothing moves tells that something is late."""
    late = look.is_stuck if look.oldest_secs is None else look.oldest_secs > LATE_SECS
    late = late and look.group != OPTIONAL  # the folder tells a trainer what it missed
    oldest = "" if look.oldest_secs is None else f", the oldest for {look.oldest_secs:.0f} s"
    waiting = "an unknown number wait" if look.waiting is None else f"{look.waiting} wait{oldest}"
    held = f", the oldest for {look.pending_secs:.0f} s" if look.pending else ""
    return Finding(
        what=f"{look.stream} for {look.group}",
        well=not late and look.pending_secs <= LATE_SECS,
        detail=f"{waiting}; {look.pending} in hand{held}",
        cure=f"start the {look.group}, or more of them; its log says what it waits for or fails on",
    )
