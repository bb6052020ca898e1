"""The page of the API: Swagger UI from the gateway itself, under its own policy."""

from __future__ import annotations

import httpx
from playwright.sync_api import expect

from browser.conftest import Tab
from e2e.conftest import System


def test_it_shows_every_operation_and_asks_nobody_else(tab: Tab, system: System) -> None:
    paths = httpx.get(f"{system.http_url}/openapi.json").json()["paths"]
    operations = sum(len(methods) for methods in paths.values())
    assert operations > 5
    tab.page.goto(f"{system.http_url}/docs")
    expect(tab.page.locator(".opblock")).to_have_count(operations)
    for path in paths:
        assert tab.page.locator(f'[data-path="{path}"]').count() >= 1
    # What goes wrong on the way is in tab.troubles, which the fixture wants empty.


def test_an_operation_can_be_tried(tab: Tab, system: System) -> None:
    page = tab.page
    page.goto(f"{system.http_url}/docs/")
    page.locator(".opblock", has=page.locator('[data-path="/api/health"]')).click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table")).to_contain_text('"status": "ok"')


def test_it_stands_under_the_same_policy_as_the_pages(system: System) -> None:
    policy = httpx.get(f"{system.http_url}/").headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    for path in ("/docs/", "/docs/docs.js", "/swagger/swagger-ui-bundle.js"):
        reply = httpx.get(f"{system.http_url}{path}")
        assert reply.status_code == httpx.codes.OK
        assert reply.headers["Content-Security-Policy"] == policy
    assert httpx.get(f"{system.http_url}/redoc").status_code == httpx.codes.NOT_FOUND
