// The page: a game, its client, and what comes back, side by side.

import { onToken, token } from "../gateway.js";
import { byId } from "../words.js";
import { Client } from "./client.js";
import { Controls } from "./controls.js";
import { drawError, drawGray, drawHeat, drawPainted, drawPlaces } from "./draw.js";
import { Panel, write } from "./panel.js";
import { flatPsnrDb, psnrDb } from "./pictures.js";
import { interpolated } from "./prior.js";
import { BINARY, JSON_FORM } from "./protocol.js";
import { Sender } from "./sender.js";
import { watch } from "./views.js";
import { World } from "./world/world.js";

const SIZE = { width: 320, height: 240 };
const MAX_DRAWN_FPS = 30;
const SLOW_MS = 40, SLOWEST_MS = 250;
const PANEL_MS = 250;
const WISH_MS = 400;

const panel = new Panel();
const world = newWorld();
const client = new Client(
  {
    url: new URL("../ws/stream", location.href).href.replace(/^http/, "ws"),
    forms: [BINARY, JSON_FORM],
    start: {
      checkpointKey: "browser-game",
      ...SIZE,
      maxStateDim: world.stateVector.length,
      client: { name: "browser-game", version: "0.1.0", features: ["footprint", "importance_map"] },
      token: token.get(),
    },
  },
  { onState, onCoordinates, onRefusal: error => panel.takeRefused(error) },
);
const controls = new Controls(byId("screen"));
const sender = new Sender(client, world, SIZE);
let endWatching = () => {};
let watched = null;
let pausedAtMs = null; // null: it plays
let movedAtMs = 0;
let answeredAtMs = 0; // when the frame was sent that was answered last
let picturedAtMs = 0; // when the frame was sent whose picture is shown
let isCountWished = false; // else the server gives its own
let settledCount = Number(byId("samples").value); // where the slider stands while nobody moves it

/** Throws, and says so, where the browser cannot draw. */
function newWorld() {
  try {
    return new World(byId("game"), SIZE);
  } catch (error) {
    tellTrouble(`The game cannot be drawn. ${error.message}`);
    throw error;
  }
}

function tellTrouble(text) {
  byId("trouble").hidden = false;
  byId("trouble").textContent = text;
}

/** There is nothing to send any more; the server is not to wait for it. */
function endPlay() {
  tellTrouble("The graphics device is gone: load this page again.");
  client.stop("the graphics device is gone");
}

function onState({ state, code, reason, sessionId, ack }) {
  byId("ask").hidden = code !== "unauthorized";
  byId("again").hidden = state !== "refused" || code === "unauthorized";
  byId("again-why").textContent = reason;
  if (code === "unauthorized") {
    watched = null; // its pictures were refused too: they are asked for again with the next token
    byId("token").focus();
  }
  if (state !== "streaming") sender.takeLoss();
  if (state === "streaming") {
    answeredAtMs = picturedAtMs = 0;
    showGranted(ack);
  }
  if (state === "streaming" && watched !== sessionId) watchSession(sessionId);
  if (state === "stopped") {
    endWatching();
    watched = null;
  }
}

/** How many samples the server gives, unless another number is being chosen. */
function showGranted({ sample_count }) {
  if (Number(byId("samples").value) !== settledCount) return;
  byId("samples").value = sample_count;
  settledCount = Number(byId("samples").value);
  write("samples-value", String(sample_count));
}

/** The pictures of a session; of a resumed one they just go on. */
function watchSession(sessionId) {
  endWatching();
  sender.forget();
  watched = sessionId;
  panel.refusal = "";
  endWatching = watch(sessionId, {
    picture: onPicture,
    unreadable: reason => panel.takeUnreadable(reason),
    refused: reason => { panel.refusal = reason; },
  });
}

function onCoordinates(set) {
  const frame = sender.sent(set.frameId);
  if (set.frameId >= 0) sender.takeAnswer();
  if (frame) {
    answeredAtMs = frame.sentAtMs;
    panel.takeLatency(performance.now() - frame.sentAtMs);
  }
  drawPlaces(byId("places"), sender.rectanglesOf(set), SIZE.width);
  if (set.importance) drawHeat(byId("heat"), set.importance);
}

function onPicture({ frameId, luma }) {
  const frame = sender.sent(frameId);
  if (!frame) return panel.takeUnreadable("too late: its frame is not kept any more");
  picturedAtMs = frame.sentAtMs;
  const prior = interpolated(frame.set, frame.values, SIZE.width, SIZE.height);
  panel.takeQuality({ ours: psnrDb(luma, frame.luma), prior: psnrDb(prior, frame.luma), flat: flatPsnrDb(frame.luma) });
  drawGray(byId("reconstruction"), luma);
  drawGray(byId("prior"), prior);
  drawError(byId("error"), luma, frame.luma);
  drawPainted(byId("painted"), sender.rectanglesOf(frame.set), frame.values);
  if (pausedAtMs !== null) pausedAtMs = performance.now(); // what was on its way belongs on the chart, too
}

function wireControls() {
  let timer = 0;
  const applyWish = () => {
    const placement = byId("placement").value;
    settledCount = Number(byId("samples").value);
    client.restart({ start: { sampling: isCountWished ? { placement, sample_count: settledCount } : { placement } } });
  };
  const applyWishSoon = () => { // each press of an arrow on the slider is a change, and each wish costs a connection
    clearTimeout(timer);
    timer = setTimeout(applyWish, WISH_MS);
  };
  byId("samples").addEventListener("change", () => { isCountWished = true; });
  for (const id of ["samples", "placement"]) byId(id).addEventListener("change", applyWishSoon);
  byId("samples").addEventListener("input", () => write("samples-value", byId("samples").value));
  byId("fps").addEventListener("input", () => { sender.wantedFps = Number(byId("fps").value); });
  byId("form").addEventListener("change", () => client.restart({ forms: [byId("form").value] }));
  byId("show-places").addEventListener("change", showOverlays);
  byId("show-heat").addEventListener("change", showOverlays);
  byId("pause").addEventListener("click", () => setPaused(pausedAtMs === null));
  byId("again").querySelector("button").addEventListener("click", () => client.restart({}));
  onToken(byId("ask"), () => client.restart({ start: { token: token.get() } }));
}

function setPaused(isPaused) {
  pausedAtMs = isPaused ? performance.now() : null;
  byId("pause").setAttribute("aria-pressed", isPaused);
}

function showOverlays() {
  byId("places").hidden = !byId("show-places").checked;
  byId("heat").hidden = !byId("show-heat").checked;
}

function wordsOf(isStill) {
  if (isStill) return "paused · press Pause again to go on, or steer";
  return world.isPilot ? "plays itself" : "you steer";
}

/** Nothing is drawn in a tab that nobody sees, and its timers hardly run: the session is left, and resumed. */
function attend() {
  if (world.isLost) return;
  if (document.hidden && client.state !== "refused") client.stop();
  if (!document.hidden && client.state === "stopped") client.start();
}

let drawnAtMs = 0, tookMs = null;
/** Where a frame takes long the processor draws it, for want of a graphics device: half of its time is a server's. */
function isDue(nowMs) {
  tookMs ??= nowMs - drawnAtMs; // the next turn waits until it is drawn
  const pauseMs = tookMs > SLOW_MS ? 2 * Math.min(tookMs, SLOWEST_MS) : 1000 / MAX_DRAWN_FPS;
  return nowMs - drawnAtMs >= pauseMs - 2;
}

/**
 * While it is paused, time passes only for who steers, and the frame that stands still is sent until its picture is
 * there: where the server gives none, until its answer is.
 */
function turn(nowMs) {
  requestAnimationFrame(turn);
  if (!isDue(nowMs) || world.isLost) return;
  const wish = controls.wish;
  const isStill = pausedAtMs !== null && !wish.forward && !wish.turn;
  if (!isStill || !movedAtMs) {
    world.play((nowMs - drawnAtMs) / 1000, wish);
    movedAtMs = nowMs;
    tookMs = null;
  }
  drawnAtMs = nowMs;
  write("pilot", wordsOf(isStill));
  if (movedAtMs >= (panel.refusal ? answeredAtMs : picturedAtMs)) sender.sendIfDue(nowMs);
}

wireControls();
showOverlays();
setPaused(matchMedia("(prefers-reduced-motion: reduce)").matches);
document.addEventListener("visibilitychange", attend);
byId("game").addEventListener("webglcontextlost", endPlay);
attend();
setInterval(() => panel.show(client, sender, SIZE, pausedAtMs ?? performance.now()), PANEL_MS);
requestAnimationFrame(turn);
