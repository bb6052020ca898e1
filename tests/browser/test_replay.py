"""The replay page: a recording chosen, looked through and played, rebuilt by two checkpoints."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, Route, expect

from browser.conftest import PHONE, SLOW_MS, Tab, open_tab, words_said_again
from replays import KEY, captured, record, served
from sgaps.checkpoints import UNTRAINED
from sgaps.protocol.views import decode_view, encode_view
from sgaps_command import SGAPS

FRAMES = 12
PATIENT_SECS = 300
"""The first pass of a model, and the last, take long where others compute as well."""
CANVASES = ("rebuilt-a", "rebuilt-b", "error-a", "error-b", "truth", "sent")
LUMA = """id => {
  const canvas = document.getElementById(id);
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return [...data].filter((_, index) => index % 4 === 0);
}"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`sgaps replay` of some recordings, with the shipped checkpoint."""
    root = tmp_path_factory.mktemp("recordings")
    record(root, "hollow", [])
    torn = {"keyframe_encoding": "png", "keyframe": b"no PNG"}
    record(root, "torn", [served(0, **torn), served(1), served(2, **torn)])
    record(root, "session", map(served, range(FRAMES)))
    record(root, "capture", map(captured, range(2)))
    broken = root / KEY / "broken" / "000000.h5"
    broken.parent.mkdir()
    broken.write_bytes(b"no segment")
    command = [str(SGAPS), "replay", str(root), "--port", "0", "--no-browser"]
    command += ["--set", f"data.checkpoints_dir={root / 'none'}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found
            first = f"recording={KEY}/session&position=0&checkpoint={UNTRAINED}"
            httpx.get(f"{found[0]}api/frame?{first}", timeout=PATIENT_SECS).raise_for_status()
            yield found[0]
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=PATIENT_SECS)
        finally:
            server.kill()
    assert server.returncode == 0


def pixels(page: Page, canvas: str) -> NDArray[np.float64]:
    """The red channel: all that is gray has it."""
    return np.array(page.evaluate(LUMA, canvas), np.float64)


def wait_for_frame(page: Page, position: int) -> None:
    drawn = page.locator("#pictures")
    expect(drawn).to_have_attribute("data-position", str(position), timeout=SLOW_MS)
    expect(page.locator("#where")).to_contain_text(f"Frame {position + 1} of")


def choose(page: Page, session: str) -> None:
    page.locator("#recordings").select_option(f"{KEY}/{session}")
    wait_for_frame(page, 0)


def test_a_recording_is_looked_through_and_two_checkpoints_are_compared(tab: Tab, url: str) -> None:
    page = tab.page
    page.goto(url)
    choose(page, "session")
    expect(page.locator("#facts")).to_contain_text(f"{FRAMES} frames, 4 whole")

    first = {canvas: pixels(page, canvas) for canvas in CANVASES}
    assert all(len(np.unique(picture)) > 1 for picture in first.values())
    assert (first["rebuilt-a"] != first["rebuilt-b"]).any()  # shipped, and interpolation alone
    for side in "ab":  # what is told is what the pixels of the page give
        error = np.square(first[f"rebuilt-{side}"] - first["truth"]).mean()
        told = page.locator(f"#psnr-{side}").inner_text()
        assert float(told.split()[0]) == pytest.approx(10 * np.log10(255**2 / error), abs=0.01)

    page.get_by_label("Frame", exact=True).fill("3")  # the scrubber, as a pointer moves it
    wait_for_frame(page, 3)
    for canvas in CANVASES:
        assert (pixels(page, canvas) != first[canvas]).any(), canvas

    page.keyboard.press("ArrowRight")
    wait_for_frame(page, 4)
    expect(page.locator("#why-truth")).to_contain_text("The nearest is at frame 4")
    expect(page.locator("#psnr-a")).to_contain_text("dB expected")
    expect(page.locator("#error-a-text")).to_contain_text("as the model expects it")
    page.get_by_role("button", name="Next true frame").click()
    wait_for_frame(page, 6)

    page.locator("#checkpoint-b").select_option(page.locator("#checkpoint-a").input_value())
    expect(page.locator("#psnr-b")).to_have_text(re.compile("expected$"), timeout=SLOW_MS)
    np.testing.assert_array_equal(pixels(page, "rebuilt-a"), pixels(page, "rebuilt-b"))
    plain = pixels(page, "rebuilt-a")
    page.get_by_label("Samples", exact=True).check()
    assert pixels(page, "rebuilt-a").size == 9 * plain.size  # drawn finer than the frame

    expect(page.locator("#course")).to_contain_text("mean of all 4 frames", timeout=SLOW_MS)
    page.keyboard.press("Home")
    wait_for_frame(page, 0)
    page.get_by_label("Samples", exact=True).uncheck()
    np.testing.assert_array_equal(pixels(page, "rebuilt-a"), first["rebuilt-a"])


def test_it_plays_to_the_end_and_a_link_leads_back(tab: Tab, url: str) -> None:
    page = tab.page
    page.goto(url)
    choose(page, "session")
    page.locator("#position").focus()
    page.keyboard.press("Space")
    expect(page.locator("#play")).to_have_text("Pause")
    assert page.locator("#play").get_attribute("aria-pressed") is None  # else: pressed, to pause
    wait_for_frame(page, FRAMES - 1)
    expect(page.locator("#play")).to_have_text("Play")
    page.keyboard.press("ArrowLeft")
    wait_for_frame(page, FRAMES - 2)
    expect(page).to_have_url(re.compile(rf"#recording={KEY}%2Fsession&frame={FRAMES - 2}&"))
    page.reload()
    wait_for_frame(page, FRAMES - 2)
    modules = page.evaluate(
        """async () => {
          const { positionAt } = await import("/playing.js");
          const { coarseToFine } = await import("/measuring.js");
          return { at: [-1, 0, .15, .3, 9].map(secs => positionAt([0, .1, .2, .3], secs)),
                   order: coarseToFine([0, 1, 2, 3, 4]), none: coarseToFine([]) };
        }"""
    )
    assert modules == {"at": [0, 0, 1, 3, 3], "order": [0, 4, 2, 1, 3], "none": []}


def test_a_phone_shows_it_and_says_what_was_drawn(chromium: Browser, url: str) -> None:
    with open_tab(chromium, PHONE) as phone:
        phone.page.goto(url)
        choose(phone.page, "capture")
        expect(phone.page.locator("#sent-text")).to_contain_text("drawn now")
        assert phone.page.evaluate("() => document.documentElement.scrollWidth") <= PHONE[0]
        for canvas in CANVASES:
            box = phone.page.locator(f"#{canvas}").bounding_box()
            assert box is not None
            assert box["width"] > 150
            assert box["x"] + box["width"] <= PHONE[0]


def test_a_recording_that_cannot_be_read_shows_nothing_of_the_one_before(
    tab: Tab, url: str
) -> None:
    page, facts = tab.page, tab.page.locator("#facts")
    page.goto(url)
    choose(page, "session")
    page.locator("#recordings").select_option(f"{KEY}/broken")
    expect(facts).to_contain_text("no frame can be read")
    expect(page.locator("#notice")).to_be_visible()
    for shown in ("#pictures", "#course", "#where"):
        expect(page.locator(shown)).not_to_be_visible()
    expect(page).to_have_url(re.compile("broken"))
    assert words_said_again(page) == []
    choose(page, "session")
    for shown in ("#pictures", "#course", "#where"):
        expect(page.locator(shown)).to_be_visible()
    assert all("422" in text or "404" in text for text in tab.troubles)
    tab.troubles.clear()


def test_a_recording_without_frames_says_so(tab: Tab, url: str) -> None:
    page = tab.page
    page.goto(url)
    page.locator("#recordings").select_option(f"{KEY}/hollow")
    expect(page.locator("#notice")).to_have_text("this recording has no frames; choose another one")
    expect(page.locator("#recordings :checked")).to_have_text(f"{KEY} · hollow · 0 frames")
    expect(page.locator("#facts")).to_contain_text("no frames · ")
    choose(page, "session")
    expect(page.locator("#notice")).to_be_hidden()
    assert all("422" in text for text in tab.troubles)
    tab.troubles.clear()


def test_where_nothing_can_be_measured_it_is_said(tab: Tab, url: str) -> None:
    page = tab.page
    page.goto(url)
    page.locator("#recordings").select_option(f"{KEY}/torn")
    told = "none of 2 true frames can be measured for both"
    expect(page.locator("#course")).to_contain_text(told, timeout=SLOW_MS)
    assert all("422" in text for text in tab.troubles)
    tab.troubles.clear()


def test_a_recording_begins_with_its_own_pair_unless_one_was_chosen(tab: Tab, url: str) -> None:
    page, a, b = tab.page, tab.page.locator("#checkpoint-a"), tab.page.locator("#checkpoint-b")

    def catalog(route: Route) -> None:
        """As where they are of different games."""
        listed = route.fetch().json()
        for one in listed["recordings"]:
            one["pair"] = one["pair"][:: -1 if one["session"] == "capture" else 1]
        route.fulfill(json=listed)

    page.route("**/api/catalog", catalog)
    page.goto(url)
    choose(page, "session")
    expect(b).to_have_value(UNTRAINED)
    expect(page).to_have_url(re.compile(f"session&frame=0&.*&b={UNTRAINED}$"))
    page.reload()
    wait_for_frame(page, 0)
    choose(page, "capture")
    expect(a).to_have_value(UNTRAINED)
    b.select_option(UNTRAINED)  # by hand
    expect(page).to_have_url(re.compile(f"capture&frame=0&a={UNTRAINED}&b={UNTRAINED}$"))
    page.reload()
    wait_for_frame(page, 0)
    choose(page, "session")
    expect(a).to_have_value(UNTRAINED)


def test_a_link_to_what_is_gone_is_told_and_kept_until_something_is_chosen(
    tab: Tab, url: str
) -> None:
    page, notice = tab.page, tab.page.locator("#notice")
    page.goto(f"{url}#recording={KEY}%2Fgone&frame=2")
    expect(notice).to_contain_text(f"The link names the recording {KEY}/gone, which is not here")
    expect(page.locator("#recordings")).to_have_value("")
    expect(page.locator("#pictures")).to_be_hidden()
    page.wait_for_timeout(1500)  # the address is told half a second later
    expect(page).to_have_url(re.compile(f"#recording={KEY}%2Fgone&frame=2$"))
    choose(page, "session")
    expect(notice).to_be_hidden()
    expect(page).to_have_url(re.compile(f"#recording={KEY}%2Fsession&frame=0&"))

    link = f"recording={KEY}%2Fsession&frame=2&a=own%2Fx%2Fv1&b={UNTRAINED}"
    page.evaluate("link => { location.hash = link; }", link)
    wait_for_frame(page, 2)
    expect(notice).to_contain_text("The link names own/x/v1, which is not here any more")
    expect(page.locator("#state")).to_have_attribute("data-state", "paused")
    page.wait_for_timeout(1500)
    expect(page).to_have_url(re.compile(f"#{link}$"))
    page.keyboard.press("Shift+T")  # the next true frame, as with t
    wait_for_frame(page, 3)
    expect(notice).to_be_hidden()
    expect(page).to_have_url(re.compile("&frame=3&a=shipped"))


def test_what_cannot_be_rebuilt_is_said_on_the_page(tab: Tab, url: str) -> None:
    page = tab.page
    page.goto(url)
    choose(page, "session")
    # As if it had gone since the page was loaded.
    page.locator("#checkpoint-b").evaluate("one => { one.append(new Option('gone', 'own/x/v1')); }")
    page.locator("#checkpoint-b").select_option("own/x/v1")
    expect(page.locator("#why-b")).to_contain_text("no such checkpoint any more", timeout=SLOW_MS)
    expect(page.locator("#psnr-a")).to_contain_text("dB")
    assert all("404" in text for text in tab.troubles)  # the browser's own line on the console
    tab.troubles.clear()


def test_an_answer_that_is_no_picture_is_told_on_its_side(tab: Tab, url: str) -> None:
    page, notice = tab.page, tab.page.locator("#notice")
    garbage = re.compile(rf"/api/frame\?.*checkpoint={UNTRAINED}")
    page.route(garbage, lambda route: route.fulfill(body=b"no view at all"))
    page.goto(url)
    choose(page, "session")
    expect(page.locator("#why-b")).to_contain_text("load it again")
    expect(page.locator("#psnr-a")).to_contain_text("dB")
    expect(notice).not_to_be_visible()
    page.route("**/api/frame?*", lambda route: route.abort())
    page.keyboard.press("ArrowRight")
    expect(notice).to_contain_text("is sgaps replay still running?")
    assert all("ERR_FAILED" in text for text in tab.troubles)  # the browser's own line
    tab.troubles.clear()


def test_measuring_goes_on_when_the_server_is_back(tab: Tab, url: str) -> None:
    page, notice = tab.page, tab.page.locator("#notice")
    page.route("**/api/score?*", lambda route: route.abort())
    page.goto(url)
    choose(page, "session")
    expect(notice).to_contain_text("is sgaps replay still running?")
    page.unroute("**/api/score?*")
    page.keyboard.press("ArrowRight")
    wait_for_frame(page, 1)
    expect(notice).to_be_hidden()
    expect(page.locator("#course")).to_contain_text("mean of all 4 frames", timeout=SLOW_MS)
    assert all("ERR_FAILED" in text for text in tab.troubles)
    tab.troubles.clear()


@pytest.mark.parametrize(("ours", "gain"), [(30.004, ""), (30.006, "+0.01 dB")])
def test_a_gain_is_told_where_the_figures_show_one(
    tab: Tab, url: str, ours: float, gain: str
) -> None:
    page = tab.page

    def frame(route: Route) -> None:
        reply = route.fetch()
        view = decode_view(reply.body())
        psnr = 30.001 if f"checkpoint={UNTRAINED}" in route.request.url else ours
        header = view.header.model_copy(update={"measured_psnr": psnr})
        route.fulfill(body=encode_view(replace(view, header=header)))

    page.route("**/api/frame?*", frame)
    page.goto(url)
    choose(page, "session")
    expect(page.locator("#psnr-b")).to_contain_text("30.00 dB measured")
    expect(page.locator("#psnr-a")).to_contain_text(f"{ours:.2f} dB measured {gain}")
    expect(page.locator(".gain")).to_have_count(1 if gain else 0)


def test_where_one_is_stays_selected_until_it_changes(tab: Tab, url: str) -> None:
    page, where = tab.page, tab.page.locator("#where")
    page.goto(url)
    choose(page, "session")
    where.evaluate("one => getSelection().selectAllChildren(one)")
    page.wait_for_timeout(1000)  # it is told every 400 ms
    assert page.evaluate("getSelection().toString()").startswith("Frame 1 of")
    page.keyboard.press("ArrowRight")
    wait_for_frame(page, 1)


TELLS = """{
  window.told = [];
  window.refuses = true;
  const replace = history.replaceState.bind(history);
  history.replaceState = (state, title, hash) => {
    told.push(hash);
    if (refuses) throw new DOMException("too many calls", "SecurityError");
    replace(state, title, hash);
  };
}"""
"""As Safari and Firefox do after many."""
STEP = """count => {
  for (let n = 0; n < count; n++)
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
}"""


def test_many_steps_change_the_address_once_and_need_it_for_nothing(tab: Tab, url: str) -> None:
    page = tab.page
    page.add_init_script(TELLS)
    page.goto(url)
    choose(page, "session")
    page.wait_for_function("() => told.length > 1")  # it tries again
    page.evaluate(STEP, 3)
    wait_for_frame(page, 3)
    page.evaluate("() => { refuses = false; }")
    expect(page).to_have_url(re.compile("&frame=3&"))
    page.evaluate("() => { told = []; }")
    page.evaluate(STEP, 5)
    wait_for_frame(page, 8)
    expect(page).to_have_url(re.compile("&frame=8&"))
    assert len(page.evaluate("told")) == 1


def test_a_link_that_is_entered_into_the_open_tab_is_followed(tab: Tab, url: str) -> None:
    page = tab.page
    page.goto(url)
    choose(page, "session")
    expect(page).to_have_url(re.compile(rf"#recording={KEY}%2Fsession&frame=0&"))
    link = f"recording={KEY}%2Fcapture&frame=1&a={UNTRAINED}&b={UNTRAINED}"
    page.evaluate("link => { location.hash = link; }", link)
    wait_for_frame(page, 1)
    expect(page.locator("#facts")).to_contain_text("2 frames, all whole")
    expect(page.locator("#checkpoint-a")).to_have_value(UNTRAINED)
    page.locator(".skip").focus()
    page.keyboard.press("Enter")  # a place on the page, and no recording
    expect(page).to_have_url(re.compile(rf"#{link}$"))
    wait_for_frame(page, 1)
    page.go_back()
    page.go_back()
    expect(page.locator("#facts")).to_contain_text(f"{FRAMES} frames")


def test_a_step_that_waits_is_none_of_the_recording_that_is_chosen_then(tab: Tab, url: str) -> None:
    page, held, asked = tab.page, list[Route](), list[str]()
    page.goto(url)
    choose(page, "session")
    page.on("request", lambda request: asked.append(request.url))
    page.route("**/api/frame?*", lambda route: held.append(route))  # noqa: PLW0108
    page.evaluate(STEP, 1)
    page.evaluate(STEP, 4)
    page.wait_for_function("() => document.getElementById('state').textContent === 'Rebuilding…'")
    page.route("**/api/recording?*", lambda route: held.append(route))  # noqa: PLW0108
    page.locator("#recordings").select_option(f"{KEY}/capture")
    page.unroute("**/api/frame?*")
    for route in held[:2]:
        route.continue_()
    page.wait_for_timeout(500)
    assert not [one for one in asked if "frame?" in one and "capture" in one]
    for route in held[2:]:
        route.continue_()
    wait_for_frame(page, 0)
