"""What the live page draws without a gateway: pictures, samples on them, and charts."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from browser.conftest import SESSION_ID, Tab, list_sessions
from browser.live_page import BLACK, view_of, watched

WIDTHS = """async width => {
  const { draw, layersOf } = await import("/pictures.js");
  const canvases = {}, made = [], create = document.createElement.bind(document);
  const names = ["rebuilt", "sent", "next", "truth", "error"];
  for (const name of names) canvases[name] = create("canvas");
  const rebuilt = new OffscreenCanvas(width, 4);
  rebuilt.getContext("2d").fillRect(0, 0, width, 4);
  const png = await rebuilt.convertToBlob({ type: "image/png" });
  const header = { width, height: 4, importance: null };
  const samples = Uint8Array.of(0, 128, 0, 128, 200, 1);
  document.createElement = name => { made.push(create(name)); return made.at(-1); };
  const layers = await layersOf({ header, samples, reconstruction: png }, null);
  const widths = [];
  for (const shown of [[], ["samples"], ["samples"], []]) {
    draw(canvases, layers, new Set(shown), 1);
    widths.push([made.map(canvas => canvas.width), canvases.rebuilt.width]);
  }
  return widths;
}"""
"""After each drawing: the canvases that were made for a frame, and what is shown."""
COUNT = """{
  const decode = createImageBitmap, create = document.createElement.bind(document);
  const count = (pictures, type) => pictures.filter(one => one instanceof type).length;
  const made = [];
  Object.assign(window, { asked: 0, decoding: null });
  window.createImageBitmap = async (...given) => {
    asked += 1;
    await decoding;
    made.push(await decode(...given));
    return made.at(-1);
  };
  document.createElement = name => {
    const one = create(name);
    if (name === "canvas") made.push(one);
    return one;
  };
  window.kept = () => {
    const kept = made.filter(one => one.width && !one.isConnected);
    return [made.length, count(kept, ImageBitmap), count(kept, HTMLCanvasElement)];
  };
}"""
"""What was made to draw from, and the bitmaps and canvases of it that hold pixels still."""
HOLD = "() => { decoding = new Promise(go => { window.decode = go; }); }"
UNDECODABLE = "What the gateway shows is no picture that this browser can decode"
MARKS = """async names => {
  const { Charts } = await import("/session-charts.js");
  const charts = new Charts(document.createElement("div"));
  const [stages_ms, parts] = [{ queue: 1, inference: 1, answer: 1 }, { samples: 6 }];
  return names.map(([session_id, model_version]) => {
    charts.add({ session_id, model_version, stages_ms, parts, predicted_psnr: 1, counters: {} });
    return charts.marks.length;
  });
}"""
"""Swaps that are marked after a frame of each session and version."""
FIGURES = """async () => {
  const { Charts } = await import("/session-charts.js");
  const box = document.querySelector("#charts"), charts = new Charts(box);
  const stages_ms = { queue: 1, inference: 1, answer: 1 }, parts = { samples: 6 };
  const header = { session_id: "a", model_version: "v1", stages_ms, parts, counters: {} };
  const told = nowMs => {
    charts.draw(nowMs);
    return [...box.querySelectorAll("b")].slice(-18).map(one => one.textContent);
  };
  const startedAtMs = performance.now();
  charts.add({ ...header, predicted_psnr: 30, measured_psnr: 40 });
  const measured = told(startedAtMs);
  while (performance.now() === startedAtMs) await new Promise(requestAnimationFrame);
  charts.add({ ...header, predicted_psnr: 15, measured_psnr: null });
  return [measured, told(performance.now()), told(performance.now() + 60_001)];
}"""
"""Of all charts: of a frame that was measured, of one that was not, and a minute later."""


BURST = """async stepMs => {
  const { Charts } = await import("/session-charts.js");
  const box = document.createElement("div"), charts = new Charts(box);
  const header = { session_id: "a", model_version: "v", parts: { samples: 6 }, counters: {} };
  const told = [], { fillText } = CanvasRenderingContext2D.prototype;
  document.body.append(box);
  let nowMs = performance.now();
  performance.now = () => nowMs;
  for (const inference of [50, 20, 80]) {
    charts.add({ ...header, predicted_psnr: 20, stages_ms: { queue: 10, inference, answer: 30 } });
    nowMs += stepMs;
  }
  CanvasRenderingContext2D.prototype.fillText = function (text) { told.push(text); };
  charts.latency.draw(nowMs, []);
  CanvasRenderingContext2D.prototype.fillText = fillText;
  return [told.at(-1), charts.latency.canvas.toDataURL()];
}"""
"""Frames so far from one another: the top of the latencies' scale, and their chart."""
LONG = """async count => {
  const { Chart } = await import("/charts.js");
  const told = ([newest]) => String(newest);
  const one = new Chart(document.querySelector("#charts"),
    { title: "t", series: [{ name: "s", colour: "accent" }], windowMs: count, headline: told });
  const blank = one.canvas.toDataURL();
  for (let at = 1; at <= count; at++) one.add(at, [at]);
  one.draw(count, []);
  return [one.big.textContent, one.canvas.toDataURL() !== blank];
}"""


def test_frames_that_come_in_one_tick_of_the_clock_are_not_added_up(tab: Tab, url: str) -> None:
    list_sessions(tab.page)
    tab.page.goto(url)
    top, chart = tab.page.evaluate(BURST, 1e-6)
    assert top == "134"  # 120 ms, and a little room
    assert tab.page.evaluate(BURST, 0) == [top, chart]


def test_a_long_course_is_charted(tab: Tab, url: str) -> None:
    """Of two hours of a video, say: more points than a function takes arguments."""
    list_sessions(tab.page)
    tab.page.goto(url)
    assert tab.page.evaluate(LONG, 200_000) == ["200000", True]


def test_what_is_old_is_charted_no_more_and_a_newer_figure_is_told_first(
    tab: Tab, url: str
) -> None:
    list_sessions(tab.page)
    tab.page.goto(url)
    measured, expected, later = tab.page.evaluate(FIGURES)
    assert measured[:3] == ["40.0 dB", "30.0 dB", "40.0 dB"]
    assert expected[:3] == ["15.0 dB", "15.0 dB", "40.0 dB"]
    assert measured[3:7] == expected[3:7] == ["3 ms", "1 ms", "1 ms", "1 ms"]
    assert measured[-2:] == expected[-2:] == ["v1", "0"]
    assert later == ["–"] * 18


def test_the_charts_of_a_paused_page_stand_still(tab: Tab, url: str) -> None:
    page, figure = tab.page, tab.page.locator(".chart b").first
    page.clock.install()
    watched(page, url).send(view_of(SESSION_ID))
    expect(page.locator("#rebuilt-text")).to_contain_text("frame 1 ")
    page.get_by_role("button", name="Pause").click()
    page.clock.run_for(500)
    expect(figure).to_have_text("20.0 dB")
    page.clock.fast_forward(70_000)
    page.clock.run_for(500)
    expect(page.locator("#age")).to_have_text(re.compile(r"^\d\d s old$"))
    expect(figure).to_have_text("20.0 dB")
    page.get_by_role("button", name="Pause").click()
    page.clock.run_for(500)
    expect(figure).to_have_text("–")


def test_pictures_are_freed_when_newer_ones_are_shown(tab: Tab, url: str) -> None:
    page = tab.page
    page.add_init_script(COUNT)
    viewer = watched(page, url)
    overlays = page.locator(".overlays [type=checkbox]")
    for n in range(overlays.count()):
        overlays.nth(n).check()
    for frame_id in range(5):
        truth = b"" if frame_id % 2 else BLACK
        viewer.send(view_of(SESSION_ID, frame_id=frame_id, truth=truth))
        expect(page.locator("#rebuilt-text")).to_contain_text(f"frame {frame_id} ")
        # The rebuilt frame and the true one; samples, marks, map and error, and one to compute on.
        assert page.evaluate("kept()")[1:] == [2, 5]
        page.locator("#opacity").fill(str(frame_id))  # draws them again


def test_a_picture_that_nobody_waits_for_any_more_is_freed(tab: Tab, url: str) -> None:
    page = tab.page
    page.add_init_script(COUNT)
    viewer = watched(page, url)
    viewer.send(view_of(SESSION_ID, truth=BLACK))
    expect(page.locator("#rebuilt-text")).to_contain_text("frame 1 ")
    before = page.evaluate("kept()")
    page.evaluate(HOLD)
    viewer.send(view_of(SESSION_ID, frame_id=2))
    page.wait_for_function("asked === 4")  # two of them to compare
    page.get_by_role("button", name="Pause").click()
    page.evaluate("decode()")
    page.wait_for_function("made => kept()[0] === made", arg=before[0] + 3)
    assert page.evaluate("kept()")[1:] == before[1:]
    page.get_by_label("True frame", exact=True).check()
    expect(page.locator("#rebuilt-text")).to_contain_text("frame 1 ")


def test_a_picture_that_cannot_be_decoded_is_told_until_one_is_shown(tab: Tab, url: str) -> None:
    page, words = tab.page, tab.page.locator("#state-text")
    viewer = watched(page, url)
    viewer.send(view_of(SESSION_ID, picture=b"no PNG", truth=BLACK))
    expect(words).to_have_text(UNDECODABLE)
    viewer.send(view_of(SESSION_ID, frame_id=2))
    expect(page.locator("#rebuilt-text")).to_contain_text("frame 2 ")
    expect(words).not_to_have_text(UNDECODABLE)


def test_a_true_frame_that_cannot_be_decoded_costs_the_comparison_alone(tab: Tab, url: str) -> None:
    page, viewer = tab.page, watched(tab.page, url)
    compared = {1: "none came yet", 2: "sent now and then", 3: "sent now and then"}
    for frame_id, said in compared.items():
        truth = BLACK if frame_id == 2 else b"no PNG"
        viewer.send(view_of(SESSION_ID, frame_id=frame_id, truth=truth))
        expect(page.locator("#rebuilt-text")).to_contain_text(f"frame {frame_id} ")
        expect(page.locator("#truth-text")).to_contain_text(said)
    expect(page.locator("#truth-age")).to_have_text("of frame 2")
    expect(page.locator("#state-text")).not_to_have_text(UNDECODABLE)


def test_another_sessions_version_is_no_swap(tab: Tab, url: str) -> None:
    list_sessions(tab.page)
    tab.page.goto(url)
    assert tab.page.evaluate(MARKS, ["a1", "b2", "a1"]) == [0, 0, 0]
    assert tab.page.evaluate(MARKS, ["a1", "a2", "b2"]) == [0, 1, 0]


@pytest.mark.parametrize(("width", "marks"), [(640, 1920), (641, 641)])
def test_samples_are_marked_once_and_only_where_they_are_shown(
    tab: Tab, url: str, width: int, marks: int
) -> None:
    list_sessions(tab.page)
    tab.page.goto(url)
    plain, over = [[width], width], [[width, marks], marks]
    assert tab.page.evaluate(WIDTHS, width) == [plain, over, over, [[width, marks], width]]
