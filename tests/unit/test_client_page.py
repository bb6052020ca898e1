"""The game's client, in Node, beside a socket and clocks that are played; no browser is needed."""

from __future__ import annotations

from browser.node import MODULES, node


def test_pauses_have_jitter_and_know_no_clock_that_is_set() -> None:
    node("--test", MODULES / "client.test.mjs")
