"""Walks through the maze of the game in the browser, as recordings to train and evaluate on.

`cd tests && ../.venv/bin/python -m browser.walks ../data/walks --sessions 16 --frames 250`: the
game walks by itself, ten frames for each second of its time, in the Chromium of Debian.
"""

from __future__ import annotations

import argparse
import base64
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, sync_playwright

from browser.conftest import ARGUMENTS, pages
from sgaps_cli.capture import record
from sgaps_client.sources import GameFrame
from tools import require_tool

KEY = "browser-game"
WIDTH, HEIGHT = 320, 240
BEGIN = """async ([width, height]) => {
  const { World } = await import("/game/world/world.js");
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const world = new World(canvas, { width, height });
  window.nextFrame = async () => {
    for (let turn = 0; turn < 3; turn++) world.play(1 / 30, { forward: 0, turn: 0 });
    const luma = await world.readLuma();
    let bytes = "";
    for (let at = 0; at < luma.length; at += 8192)
      bytes += String.fromCharCode(...luma.subarray(at, at + 8192));
    return [btoa(bytes), [...world.stateVector]];
  };
}"""


class Walk:
    """A source of frames: the game in one tab."""

    name = KEY
    width, height = WIDTH, HEIGHT
    state_dim = 11

    def __init__(self, page: Page) -> None:
        self._page = page

    def frames(self) -> Iterator[GameFrame]:
        self._page.evaluate(BEGIN, [WIDTH, HEIGHT])
        while True:
            luma, state = self._page.evaluate("nextFrame()")
            image = np.frombuffer(base64.b64decode(luma), np.uint8).reshape(HEIGHT, WIDTH)
            yield GameFrame(image=image, state=np.array(state, np.float32))

    def close(self) -> None:
        """The tab is closed by who opened it."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder of recordings")
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--frames", type=int, default=31, help="of each session")
    arguments = parser.parse_args()
    program = require_tool("chromium", "chromium")
    with pages() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        for _ in range(arguments.sessions):
            page = browser.new_page(viewport={"width": 200, "height": 100})
            page.goto(f"{url}/game/game.css")  # a page of this address with nothing on it
            record(
                Walk(page),
                arguments.out,
                key=KEY,
                session_id=f"capture-{secrets.token_hex(6)}",
                frames=arguments.frames,
            )
            page.close()
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
