"""The parts of a service end together."""

from __future__ import annotations

import asyncio

import pytest

from sgaps.service import together


async def test_a_part_that_fails_ends_one_that_cannot_be_cancelled() -> None:
    """As `asyncio.wait_for` of Python 3.11 may swallow it, deep in a library."""
    stop = asyncio.Event()

    async def stubborn() -> None:
        while not stop.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    async def fails() -> None:
        await asyncio.sleep(0.02)
        raise ZeroDivisionError

    async with asyncio.timeout(5):
        with pytest.raises(ExceptionGroup, match="unhandled errors") as ended:
            await together(stop, stubborn(), fails())
    assert [type(error) for error in ended.value.exceptions] == [ZeroDivisionError]


async def test_a_part_may_end_before_the_others() -> None:
    stop, done = asyncio.Event(), []

    async def quick() -> None:
        done.append("quick")

    async def waits() -> None:
        await stop.wait()
        done.append("waits")

    running = asyncio.create_task(together(stop, quick(), waits()))
    await asyncio.sleep(0.05)
    assert done == ["quick"]
    stop.set()
    await running
    assert done == ["quick", "waits"]
