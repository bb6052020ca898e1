// The live page: which session, what is known of it, and how old that is.

import { Charts } from "./session-charts.js";
import { showFacts } from "./facts.js";
import { getJson, Gone, Look, onToken, Refused, token, Unauthorized } from "./gateway.js";
import { comparisonOf, draw, layersOf } from "./pictures.js";
import { Vector } from "./vector.js";
import { readView, sampleCount } from "./wire.js";
import { byId, rewrite, whole } from "./words.js";

const POLL_MS = 1000, TICK_MS = 250;
/** A picture is old after so many times as long as the one before it was shown, within these bounds. */
const STALE = { times: 2.5, leastMs: 1500, mostMs: 10_000 };
/** So far from the true frame (0..1) no noise takes samples, but another v, white or gray. */
const WRONG_SAMPLES = .1;
const isCalm = matchMedia("(prefers-reduced-motion: reduce)");
const canvases = Object.fromEntries(["sent", "rebuilt", "next", "truth", "error"].map(id => [id, byId(id)]));
const charts = new Charts(byId("charts")), vector = new Vector(byId("vector"));
const FIRST_WORDS = Object.fromEntries(["lead-samples", "lead-text", "sent-text", "rebuilt-text", "truth-text"].map(id => [id, byId(id).textContent]));

const page = {
  sessions: null,        // as the gateway lists them; null before the first answer
  look: null,            // the socket that is open
  status: null,          // the newest view_status
  layers: null,          // what is drawn
  shownAtMs: null,       // when it was drawn
  intervalMs: 0,         // how long the one before it was shown
  waiting: null,         // the newest view that is not drawn yet
  comparing: null,       // the newest one that came with its true frame: it may be an older one
  isDrawing: false,
  pausedAtMs: null,      // null: it is not paused
  isLost: false,
  chosen: null,          // the session that was chosen from the list; null: the newest one
  wantedId: null,        // the session to be looked at, whether it is there, and a socket open, or not
  denial: "",            // why the gateway lists no sessions
  refusal: "",           // why the gateway shows nothing of it
  unreadable: "",        // why the newest view cannot be shown
  lookAgainAtMs: 0,      // before that it wants to be asked for no session
  wantsTokenFor: null,   // "list" or "view": what the gateway refuses for want of a token
};

/* What comes in. */

function onView(buffer) {
  let view;
  try {
    view = readView(buffer);
  } catch (error) {
    page.unreadable = error.message;
    return say();
  }
  charts.add(view.header);
  page.waiting = view;
  if (view.header.true_frame) page.comparing = view;
  if (!page.isDrawing) drawWaiting();
}

function onStatus(status) {
  page.status = status;
  page.refusal = "";
  charts.count(status.counters, page.look.sessionId);
  say();
}

async function drawWaiting() {
  page.isDrawing = true;
  try {
    while (page.waiting) await drawNewest();
  } finally {
    page.isDrawing = false;
  }
}

async function drawNewest() {
  const { waiting, comparing, look } = page;
  page.waiting = page.comparing = null;
  let layers;
  try {
    layers = await layersOf(waiting, await comparison(waiting, comparing));
  } catch (error) {
    if (page.look === look) page.unreadable = error.message;
    return say();
  }
  if (page.look !== look) return layers.free(page.layers); // another session was chosen meanwhile
  show(layers);
  await new Promise(requestAnimationFrame);
}

function show(layers) {
  page.layers?.free(layers);
  page.layers = layers;
  const nowMs = performance.now();
  page.intervalMs = nowMs - (page.shownAtMs ?? nowMs);
  page.shownAtMs = nowMs;
  page.unreadable = "";
  redraw();
  say();
}

/** The newest of this session and size, which another start may change: true frames come now and then. */
async function comparison({ header }, comparing) {
  const newest = comparing && await comparisonOf(comparing);
  return [newest, page.layers?.held].find(held =>
    held?.sessionId === header.session_id && held.truth.width === header.width && held.truth.height === header.height);
}

/** As before the first picture: what is shown of one session says nothing of another. */
function forget() {
  page.layers.free();
  page.layers = page.shownAtMs = null;
  for (const canvas of Object.values(canvases)) canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  for (const [id, text] of Object.entries(FIRST_WORDS)) byId(id).textContent = text;
  byId("sent-text").classList.remove("is-wrong");
  for (const id of ["truth-age", "error-age"]) byId(id).hidden = true;
  vector.show([], null);
}

function redraw() {
  if (!page.layers) return;
  const shown = new Set([...document.querySelectorAll(".overlays :checked")].map(box => box.name));
  draw(canvases, page.layers, shown, byId("opacity").value / 100);
  showCaptions(page.layers);
}

/* Which session. */

function wanted() {
  const { sessions, chosen, wantedId, pausedAtMs } = page;
  const keptId = chosen?.session_id ?? (pausedAtMs === null ? null : wantedId); // what is read must not go meanwhile
  if (keptId) return sessions.find(session => session.session_id === keptId);
  return sessions.filter(session => session.connected).sort((a, b) => b.started_at_secs - a.started_at_secs)[0];
}

/** A chosen session that is listed no more may come back, as after a restart of the gateway. */
function offerSessions() {
  const { sessions, chosen } = page, select = byId("sessions"), chosenId = chosen?.session_id ?? "";
  const offer = ({ checkpoint_key: key, session_id: id }, note) => [`${key} · ${id.slice(0, 6)}${note}`, id];
  const options = [["The newest one", ""], ...sessions.map(session => offer(session, session.connected ? "" : " (left)"))];
  if (chosen && !wanted()) options.push(offer(chosen, " (gone)"));
  const isSame = options.length === select.length && options.every(([name, id], index) => select[index].value === id && select[index].text === name);
  if (isSame) return; // an open list must not change under the reader's hand without need
  select.replaceChildren(...options.map(([name, id]) => new Option(name, id, false, id === chosenId)));
}

/** Show what there is of the wanted session, and nothing of another. */
function turnToWanted() {
  const session = wanted(), isUnseen = document.hidden || page.pausedAtMs !== null;
  if (session) turnTo(session.session_id);
  lookAt(isUnseen ? null : session?.session_id ?? null);
  showFacts(byId("facts"), session);
}

function turnTo(sessionId) {
  if (sessionId !== page.wantedId) page.refusal = page.unreadable = ""; // it was said of another session
  page.wantedId = sessionId;
  charts.turnTo(sessionId);
  if (page.layers && page.layers.header.session_id !== sessionId) forget();
}

function lookAt(sessionId) {
  if (!sessionId) page.refusal = page.unreadable = ""; // who looks at nothing is refused nothing
  if ((page.look?.sessionId ?? null) === sessionId) return;
  page.look?.close();
  page.look = page.status = page.waiting = page.comparing = null;
  if (!sessionId || performance.now() < page.lookAgainAtMs) return;
  page.look = new Look(sessionId, {
    view: onView,
    status: onStatus,
    end: error => { page.look = page.status = null; if (!(error instanceof Gone)) fail(error, "view"); say(); },
  });
}

async function poll() {
  try {
    page.sessions = await getJson("/api/sessions");
    page.isLost = false;
    page.wantsTokenFor = null;
    page.denial = "";
    stopAsking();
    offerSessions();
    turnToWanted();
  } catch (error) {
    page.denial = error instanceof Refused ? error.message : "";
    if (!page.denial) fail(error, "list");
  }
  say();
}

function fail(error, asked) {
  if (error instanceof Unauthorized) {
    if (!page.wantsTokenFor) askForToken();
    page.wantsTokenFor = asked;
  } else if (error instanceof Refused) {
    page.refusal = error.message;
    page.lookAgainAtMs = performance.now() + 1000 * error.retryAfterSecs;
  } else {
    page.isLost = true;
  }
}

/* How things are. */

function state() {
  const ageMs = page.shownAtMs === null ? Infinity : performance.now() - page.shownAtMs;
  const staleMs = Math.min(Math.max(STALE.leastMs, STALE.times * page.intervalMs), STALE.mostMs);
  if (page.wantsTokenFor) return ["lost", "This gateway wants a token"];
  if (page.denial) return ["lost", `The gateway shows nothing: ${page.denial}`];
  if (page.isLost && ageMs >= staleMs) return ["lost", "The gateway does not answer; trying again"]; // a list may wait behind pictures
  if (page.unreadable) return ["lost", `What the gateway shows is ${page.unreadable}`];
  if (page.refusal) return ["lost", `The gateway shows nothing: ${page.refusal}`];
  if (page.pausedAtMs !== null) return ["paused", "Paused"];
  if (page.sessions === null) return ["waiting", "Connecting…"];
  if (page.chosen && !wanted()) return ["stale", "The chosen session is gone; waiting for it"];
  if (!page.sessions.some(session => session.connected)) return ["stale", "Nobody plays. Try: sgaps play doom/my_way_home"];
  if (ageMs < staleMs) return ["live", "Live"];
  const missing = Object.entries(page.status?.missing ?? {});
  if (missing.length) return ["stale", `No new picture: ${missing.map(([name, why]) => `${name}: ${why}`).join("; ")}`];
  if (page.status && !page.status.connected) return ["stale", "The game has left"];
  return page.shownAtMs === null ? ["waiting", "Waiting for the first picture"] : ["stale", "No new picture"];
}

function say() {
  const [name, text] = state();
  const ageSecs = page.shownAtMs === null ? null : (performance.now() - page.shownAtMs) / 1000;
  const isOld = ageSecs !== null && name !== "live";
  const age = isOld ? `${ageSecs < 60 ? ageSecs.toFixed(1) : Math.round(ageSecs)} s old` : "";
  byId("state").dataset.state = name;
  rewrite(byId("state-text"), text);
  byId("age").textContent = age;
  byId("rebuilt-age").hidden = !isOld;
  byId("rebuilt-age").textContent = age;
  byId("pictures").classList.toggle("is-stale", page.layers !== null && !["live", "paused"].includes(name));
  document.title = name === "live" ? "SGAPS-MAE · live" : "SGAPS-MAE · not live";
}

function showCaptions({ header, held }) {
  const samples = sampleCount(header), pixels = header.width * header.height;
  byId("lead-samples").textContent = whole.format(samples);
  byId("lead-text").textContent = `A game sends ${whole.format(samples)} values of each frame of ${whole.format(pixels)} pixels; the server rebuilds `
    + "the whole picture, finds where it is unsure, and asks for the next ones there.";
  const isOfAnother = held?.sampleError >= WRONG_SAMPLES;
  byId("sent-text").classList.toggle("is-wrong", isOfAnother);
  byId("sent-text").textContent = isOfAnother
    ? "These samples are not of the game's true frame: v counts from the top, white is 1, gray is the luma of BT.601"
    : `${whole.format(samples)} samples, ${(samples / pixels * 100).toFixed(1)} % as many as pixels`;
  const psnr = header.measured_psnr ?? header.predicted_psnr;
  byId("rebuilt-text").textContent = `frame ${header.frame_id}`
    + (psnr === null ? "" : ` · ${psnr.toFixed(1)} dB ${header.measured_psnr === null ? "expected" : "measured"}`);
  for (const id of ["truth-age", "error-age"]) {
    byId(id).hidden = !held || held.frameId === header.frame_id;
    byId(id).textContent = `of frame ${held?.frameId}`;
  }
  byId("truth-text").textContent = held ? "sent now and then, to train and compare" : "none came yet";
}

function askForToken() {
  byId("ask").hidden = false;
  byId("ask-why").textContent = token.get() ? "That token is wrong." : "";
  byId("token").focus();
}

/** Who was typing goes on where the answer will be: the focus of what is hidden is lost. */
function stopAsking() {
  if (byId("ask").contains(document.activeElement)) byId("pictures").focus({ preventScroll: true });
  byId("ask").hidden = true;
}

/* What people do. */

onToken(byId("ask"), () => {
  stopAsking();
  page.wantsTokenFor = null;
  poll();
});
byId("pause").addEventListener("click", () => {
  page.pausedAtMs = page.pausedAtMs === null ? performance.now() : null;
  byId("pause").setAttribute("aria-pressed", page.pausedAtMs !== null);
  if (page.pausedAtMs !== null) lookAt(null);
  poll();
});
byId("sessions").addEventListener("change", () => {
  page.chosen = page.sessions.find(session => session.session_id === byId("sessions").value) ?? null;
  page.wantedId = null; // who wants the newest one has not chosen that of before
  lookAt(null);
  turnToWanted();
  say();
  poll();
});
document.querySelector(".overlays").addEventListener("input", redraw);
document.addEventListener("visibilitychange", poll); // nobody looks at a hidden page, so nothing is made for it
addEventListener("themechange", drawCharts);

/** While it is paused they stand still, too. */
function drawCharts() {
  charts.draw(page.pausedAtMs ?? performance.now());
}

setInterval(() => {
  const { state = [], session_id: sessionId = null } = page.layers?.header ?? {};
  say();
  vector.show(state, sessionId);
  if (!isCalm.matches) drawCharts();
}, TICK_MS);
setInterval(() => { if (isCalm.matches) drawCharts(); }, POLL_MS);
// Where it is a view that wants a token, the list would come, and each time the form would go from under the hand.
(async () => { for (;;) { if (page.wantsTokenFor !== "view") await poll(); await new Promise(next => setTimeout(next, POLL_MS)); } })();
