"""Both pages where the gateway wants a token, and where a test says that it does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect
from websockets.sync.client import connect

from browser.conftest import SESSION_ID, Tab, list_sessions
from browser.game_page import UNHEARD, remember_states, wait_for_passing
from browser.live_page import SESSION, WATCH, refuse_views
from integration.talk import START
from ports import free_port
from waiting import PATIENCE_SECS, answers, wait_until

TOKEN = "a-secret"  # noqa: S105


@pytest.fixture
def guarded(broker_url: str) -> Iterator[str]:
    """The address of a gateway with a token, and nothing behind it."""
    port = free_port()
    settings = (f"bus.url={broker_url}", f"server.port={port}", f"server.auth_token={TOKEN}")
    process = subprocess.Popen([sys.executable, "-m", "gateway", *settings])
    address = f"127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(f"http://{address}/api/health"))
        yield address
    finally:
        process.terminate()
        process.wait(30)


def test_a_wrong_token_is_refused_and_the_right_one_opens_the_page(tab: Tab, guarded: str) -> None:
    page = tab.page
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    page.on("websocket", lambda socket: addresses.append(socket.url))
    with connect(f"ws://{guarded}/ws/stream") as game:
        game.send(json.dumps({**START, "auth_token": TOKEN}))
        session_id = json.loads(game.recv())["session_id"]
        page.goto(f"http://{guarded}/")
        token = page.get_by_label("Token of this gateway")
        expect(token).to_be_focused()
        token.fill("wrong")
        token.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("That token is wrong.")
        expect(page.locator("#state")).to_have_attribute("data-state", "lost")
        token.fill(TOKEN)
        page.get_by_role("button", name="Show the sessions").click()
        # Which only the socket tells: the token went over it as well.
        expect(page.locator("#state-text")).to_contain_text("reconstructor: no heartbeat")
        expect(token).to_be_hidden()
    assert any(address.endswith(f"/ws/view/{session_id}") for address in addresses)
    assert not any(TOKEN in address for address in addresses)
    assert tab.troubles
    assert all("401" in text for text in tab.troubles)
    tab.troubles.clear()


def test_the_game_asks_for_the_token_and_keeps_it_in_the_tab(tab: Tab, guarded: str) -> None:
    page = tab.page
    page.goto(f"http://{guarded}/game/")
    remember_states(page)
    for token in ("wrong", TOKEN):
        page.locator("#ask").wait_for(state="visible", timeout=1000 * PATIENCE_SECS)
        page.fill("#token", token)
        page.click("#ask button")
        page.wait_for_timeout(500)
    wait_for_passing(page, "live")
    expect(page.locator("#ask")).to_be_hidden()
    assert page.evaluate("sessionStorage.getItem('token')") == TOKEN
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    tab.troubles = [t for t in tab.troubles if not any(part in t for part in UNHEARD)]


def test_a_viewer_whose_token_is_refused_stays_away(tab: Tab, url: str) -> None:
    came = refuse_views(tab.page, code="unauthorized", message="wrong token")
    list_sessions(tab.page)
    tab.page.goto(url)
    tab.page.evaluate(WATCH, SESSION_ID)
    tab.page.wait_for_timeout(2500)
    assert len(came) == 1


def test_a_token_that_no_header_can_hold_is_a_wrong_one(tab: Tab, url: str) -> None:
    page, why = tab.page, tab.page.locator("#ask-why")
    page.route("**/api/sessions", lambda route: route.fulfill(status=401))
    page.goto(url)
    page.locator("#token").fill("se\u200bcret")
    page.locator("#token").press("Enter")
    expect(why).to_have_text("That token is wrong.")
    expect(page.locator("#ask")).to_be_visible()
    page.reload()
    expect(why).to_have_text("That token is wrong.")
    tab.troubles = [trouble for trouble in tab.troubles if "401" not in trouble]


def test_who_typed_the_token_goes_on_at_the_pictures(tab: Tab, url: str) -> None:
    page, token = tab.page, tab.page.locator("#token")
    focused = "document.activeElement.id"
    page.route("**/api/sessions", lambda route: route.fulfill(status=401))
    page.goto(url)
    for typed in ("wrong", TOKEN):
        expect(token).to_be_focused()
        if typed == TOKEN:
            list_sessions(page)
        token.fill(typed)
        token.press("Enter")
        expect(token).to_be_visible(visible=typed != TOKEN)
    assert page.evaluate(focused) == "pictures"
    tab.troubles = [trouble for trouble in tab.troubles if "401" not in trouble]


def test_nobody_is_asked_for_a_token_that_is_wanted_no_more(tab: Tab, url: str) -> None:
    page = tab.page
    page.route("**/api/sessions", lambda route: route.fulfill(status=401))
    page.goto(url)
    expect(page.locator("#ask")).to_be_visible()
    list_sessions(page)
    expect(page.locator("#ask")).to_be_hidden()
    expect(page.locator("#state-text")).to_contain_text("Nobody plays")
    tab.troubles = [trouble for trouble in tab.troubles if "401" not in trouble]


def test_a_token_that_the_pictures_want_can_be_entered_in_peace(tab: Tab, url: str) -> None:
    """Where a proxy adds the token to requests, which it cannot to a socket's messages."""
    page, token = tab.page, tab.page.locator("#token")
    came = refuse_views(page, code="unauthorized", message="wrong token")
    list_sessions(page, SESSION)
    page.goto(url)
    token.fill("half of i")
    page.wait_for_timeout(2500)
    expect(token).to_be_visible()
    expect(token).to_have_value("half of i")
    assert len(came) == 1
