"""`reconstruction.png`: one look at a session by HTTP, which shares its reader with all others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx
import pytest

from integration.conftest import RunningGateway, eventually, running_gateway, with_changes
from integration.talk import start
from integration.test_gateway_views import begin, encoded, look, watched
from sgaps.bus import RedisBus
from sgaps.bus.base import Entry
from sgaps.settings import Settings


class CountingBus(RedisBus):
    """It knows how many readers wait at once."""

    waiting = most_waiting = 0

    async def tail(
        self, stream: str, after_id: str, *, count: int, block_secs: float
    ) -> list[Entry]:
        self.waiting += block_secs > 0
        self.most_waiting = max(self.most_waiting, self.waiting)
        try:
            return await super().tail(stream, after_id, count=count, block_secs=block_secs)
        finally:
            self.waiting -= block_secs > 0


async def look_by_http(
    gateway: RunningGateway, session_id: str, *, address: str = ""
) -> httpx.Response:
    headers = {"X-Forwarded-For": address} if address else {}
    async with httpx.AsyncClient(base_url=gateway.http_url, timeout=60) as http:
        return await http.get(f"/api/sessions/{session_id}/reconstruction.png", headers=headers)


async def pictures_until(
    gateway: RunningGateway, session_id: str, looks: Sequence[asyncio.Task[httpx.Response]]
) -> list[str]:
    """Publish until all have seen one, for a look may still be on its way; their frames."""
    frame_ids = [10]

    async def all_shown() -> bool:
        frame_ids.append(frame_ids[-1] + 1)
        await gateway.bus.publish(encoded(session_id, frame_ids[-1]))
        return all(look.done() for look in looks)

    await eventually(all_shown)
    return [str(frame_id) for frame_id in frame_ids[1:]]


def of(reply: httpx.Response) -> tuple[bytes, str | None, str | None]:
    return reply.content, reply.headers.get("X-Frame-Id"), reply.headers.get("X-Model-Version")


async def test_all_looks_at_a_session_share_one_reader(
    gateway_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.api.VIEW_WAIT_SECS", 60.0)
    async with running_gateway(gateway_settings, CountingBus) as gateway, gateway.connect() as game:
        assert isinstance(gateway.bus, CountingBus)
        session_id = (await start(game))["session_id"]
        async with look(gateway, session_id) as viewer:
            await begin(gateway, viewer, session_id)
            looks = [asyncio.create_task(look_by_http(gateway, session_id)) for _ in range(8)]
            frame_ids = await pictures_until(gateway, session_id, looks)
        replies = [of(look.result()) for look in looks]
        assert gateway.bus.most_waiting == 1
    assert {(picture, version) for picture, _, version in replies} == {(b"a picture", "v1")}
    assert {frame_id for _, frame_id, _ in replies} <= set(frame_ids)


async def test_who_looks_all_the_time_keeps_no_other_from_looking(
    gateway_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A game that sends nothing is waited for: so many at once, and of one address a quarter."""
    monkeypatch.setattr("gateway.api.VIEW_WAIT_SECS", 60.0)
    server = {"max_viewers": 8, "trusted_proxies": ["127.0.0.1"]}
    settings = with_changes(gateway_settings, server=server)
    async with running_gateway(settings) as gateway, gateway.connect() as game:
        session_id = (await start(game))["session_id"]

        def begun(address: str) -> asyncio.Task[httpx.Response]:
            return asyncio.create_task(look_by_http(gateway, session_id, address=address))

        flood = [begun("192.0.2.1") for _ in range(40)]
        other = begun("192.0.2.2")

        async def refused() -> bool:
            return sum(look.done() for look in flood) == 38

        await eventually(refused)
        replies = [look.result() for look in flood if look.done()]
        await pictures_until(gateway, session_id, [other, *flood])
    assert {(reply.status_code, reply.headers["Retry-After"]) for reply in replies} == {(503, "1")}
    assert {reply.json()["detail"] for reply in replies} == {
        "too many viewers from your address look at sessions"
    }
    assert other.result().status_code == 200


async def test_the_next_picture_is_shown_else_the_newest_there_is(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one of before is as old as the last look."""
    async with gateway.connect() as game:
        session_id = (await start(game))["session_id"]
        for frame_id in (3, 4):
            await gateway.bus.publish(encoded(session_id, frame_id, reconstruction_png=b"old"))
        monkeypatch.setattr("gateway.api.VIEW_WAIT_SECS", 0.1)
        assert of(await look_by_http(gateway, session_id)) == (b"old", "4", "v1")
        monkeypatch.setattr("gateway.api.VIEW_WAIT_SECS", 60.0)
        looking = asyncio.create_task(look_by_http(gateway, session_id))
        await eventually(lambda: watched(gateway, session_id))
        frame_ids = await pictures_until(gateway, session_id, [looking])
    picture, shown_id, _ = of(looking.result())
    assert (picture, shown_id in frame_ids) == (b"a picture", True)
