"""What tests of the game's page look at, and how they wait for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from playwright.sync_api import Page

from browser.conftest import Tab
from waiting import wait_until

UNHEARD = ("GPU stall due to ReadPixels", "Automatic fallback to software WebGL")
"""What Chromium says of drawing without a GPU."""
T = TypeVar("T")


@contextmanager
def game(tab: Tab, url: str, *, caused: tuple[str, ...] = ()) -> Iterator[Page]:
    """The game, playing; `caused` are parts of the troubles that the test makes itself."""
    tab.page.goto(f"{url}/game")
    wait_for_state(tab.page, "live")
    yield tab.page
    heard = (*UNHEARD, *caused)
    tab.troubles = [t for t in tab.troubles if not any(part in t for part in heard)]


def eventually(page: Page, look: Callable[[], T | None]) -> T:
    """What `look` finds, as soon as it finds something; the page goes on meanwhile."""

    def look_or_let_it_go_on() -> T | None:
        if not (found := look()):
            page.wait_for_timeout(100)
        return found

    return wait_until(look_or_let_it_go_on, page.url)


def state_of(page: Page) -> tuple[str, str]:
    """How the connection is said to be, and in what words: read at once, for both change."""
    look = "at => [at.dataset.state, at.innerText]"
    state, words = page.locator("#state").evaluate(look)
    return str(state), str(words)


def wait_for_state(page: Page, wanted: str) -> str:
    return eventually(page, lambda: dict([state_of(page)]).get(wanted))


REMEMBER = """at => {
  window.states = [];
  const remember = () => window.states.push([at.dataset.state, at.innerText]);
  const what = { attributes: true, characterData: true, childList: true, subtree: true };
  new MutationObserver(remember).observe(at, what);
}"""


def remember_states(page: Page) -> None:
    """One that lasts a second is not missed by a busy machine: wait_for_passing(…) finds it."""
    page.locator("#state").evaluate(REMEMBER)


def wait_for_passing(page: Page, wanted: str) -> str:
    """The words of a state that was remembered, whether or not it still holds."""

    def look() -> str | None:
        states: dict[str, str] = dict(page.evaluate("states"))
        return states.get(wanted)

    return eventually(page, look)
