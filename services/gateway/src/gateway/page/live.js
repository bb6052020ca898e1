// The live page: which session, what is known of it, and how old that is.

import { Charts } from "./session-charts.js";
import { getJson, Gone, Look, Refused, token, Unauthorized } from "./gateway.js";
import { comparisonOf, draw, layersOf } from "./pictures.js";
import { readView } from "./wire.js";
import { rewrite } from "./words.js";

const byId = id => document.getElementById(id);
const POLL_MS = 1000, STALE_MS = 1500, TICK_MS = 250;
const isCalm = matchMedia("(prefers-reduced-motion: reduce)");
const canvases = Object.fromEntries(["sent", "rebuilt", "next", "truth", "error"].map(id => [id, byId(id)]));
const whole = new Intl.NumberFormat("en");
const charts = new Charts(byId("charts"));

const page = {
  sessions: null,        // as the gateway lists them; null before the first answer
  look: null,            // the socket that is open
  status: null,          // the newest view_status
  layers: null,          // what is drawn
  shownAtMs: null,       // when it was drawn
  waiting: null,         // the newest view that is not drawn yet
  comparing: null,       // the newest one that came with its true frame: it may be an older one
  isDrawing: false,
  isPaused: false,
  isLost: false,
  wantedId: null,        // the session to be looked at, whether a socket is open or not
  denial: "",            // why the gateway lists no sessions
  refusal: "",           // why the gateway shows nothing of it
  unreadable: "",        // why the newest view cannot be shown
  lookAgainAtMs: 0,      // before that it wants to be asked for no session
  wantsToken: false,
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
  page.shownAtMs = performance.now();
  page.unreadable = "";
  redraw();
  say();
}

/** The newest of this session: true frames come now and then. */
async function comparison(view, comparing) {
  const newest = comparing && await comparisonOf(comparing);
  return [newest, page.layers?.held].find(held => held?.sessionId === view.header.session_id);
}

function redraw() {
  if (!page.layers) return;
  const shown = new Set([...document.querySelectorAll(".overlays :checked")].map(box => box.name));
  draw(canvases, page.layers, shown, byId("opacity").value / 100);
  showCaptions(page.layers);
}

/* Which session. */

function wanted() {
  const connected = page.sessions.filter(session => session.connected).sort((a, b) => b.started_at_secs - a.started_at_secs);
  const pinned = page.sessions.find(session => session.session_id === byId("sessions").value);
  return pinned ?? connected.find(session => session.session_id === page.look?.sessionId) ?? connected[0];
}

function offerSessions() {
  const select = byId("sessions"), options = page.sessions.map(session => {
    const name = `${session.checkpoint_key} · ${session.session_id.slice(0, 6)}${session.connected ? "" : " (left)"}`;
    return [name, session.session_id];
  });
  options.unshift(["The newest one", ""]);
  const isSame = options.length === select.length && options.every(([name, id], index) => select[index].value === id && select[index].text === name);
  if (isSame) return; // an open list must not change under the reader's hand without need
  const chosen = select.value;
  select.replaceChildren(...options.map(([name, id]) => new Option(name, id, false, id === chosen)));
}

function lookAt(session) {
  const wantedId = session?.session_id ?? null;
  if (wantedId !== page.wantedId) page.refusal = page.unreadable = ""; // it was said of another session
  page.wantedId = wantedId;
  if (page.look?.sessionId === session?.session_id) return;
  page.look?.close();
  page.look = page.status = page.waiting = page.comparing = null;
  if (!session || performance.now() < page.lookAgainAtMs) return;
  page.look = new Look(session.session_id, {
    view: onView,
    status: onStatus,
    end: error => { page.look = page.status = null; if (!(error instanceof Gone)) fail(error); say(); },
  });
}

async function poll() {
  try {
    page.sessions = await getJson("/api/sessions");
    page.isLost = page.wantsToken = false;
    page.denial = "";
    offerSessions();
    const session = wanted();
    lookAt(document.hidden || page.isPaused ? null : session);
    showFacts(session);
  } catch (error) {
    if (error instanceof Refused) page.denial = error.message;
    else fail(error);
  }
  say();
}

function fail(error) {
  if (error instanceof Unauthorized) {
    if (!page.wantsToken) askForToken();
    page.wantsToken = true;
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
  if (page.wantsToken) return ["lost", "This gateway wants a token"];
  if (page.denial) return ["lost", `The gateway shows nothing: ${page.denial}`];
  if (page.isLost) return ["lost", "The gateway does not answer; trying again"];
  if (page.unreadable) return ["lost", `What the gateway shows is ${page.unreadable}`];
  if (page.refusal) return ["lost", `The gateway shows nothing: ${page.refusal}`];
  if (page.isPaused) return ["paused", "Paused"];
  if (page.sessions === null) return ["waiting", "Connecting…"];
  if (!page.sessions.some(session => session.connected)) return ["stale", "Nobody plays. Try: sgaps play doom/my_way_home"];
  if (ageMs < STALE_MS) return ["live", "Live"];
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
  const samples = header.parts.samples / 6, pixels = header.width * header.height;
  byId("lead-samples").textContent = whole.format(samples);
  byId("lead-text").textContent = `A game sends ${whole.format(samples)} values of each frame of ${whole.format(pixels)} pixels; the server rebuilds `
    + "the whole picture, finds where it is unsure, and asks for the next ones there.";
  byId("sent-text").textContent = `${whole.format(samples)} samples, ${(samples / pixels * 100).toFixed(1)} % as many as pixels`;
  const psnr = header.measured_psnr ?? header.predicted_psnr;
  byId("rebuilt-text").textContent = `frame ${header.frame_id}`
    + (psnr === null ? "" : ` · ${psnr.toFixed(1)} dB ${header.measured_psnr === null ? "expected" : "measured"}`);
  for (const id of ["truth-age", "error-age"]) {
    byId(id).hidden = !held || held.frameId === header.frame_id;
    byId(id).textContent = `of frame ${held?.frameId}`;
  }
  byId("truth-text").textContent = held ? "sent now and then, to train and compare" : "none came yet";
}

function showFacts(session) {
  const facts = session ? {
    Key: session.checkpoint_key, Client: session.client || "–", Picture: `${session.width} × ${session.height}`,
    "Playing for": `${Math.round(session.duration_secs)} s`, Frames: whole.format(session.frames_received),
    Answered: whole.format(session.frames_answered), Refused: whole.format(session.messages_refused),
    "Latency, p50 / p99": session.latency_p50_ms === null ? "–" : `${session.latency_p50_ms.toFixed(0)} / ${session.latency_p99_ms.toFixed(0)} ms`,
    Model: session.model_version ?? "–",
  } : {};
  const list = byId("facts"), names = Object.keys(facts);
  if (list.children.length !== 2 * names.length) {
    list.replaceChildren(...names.flatMap(name => [Object.assign(document.createElement("dt"), { textContent: name }), document.createElement("dd")]));
  }
  Object.values(facts).forEach((value, index) => rewrite(list.children[2 * index + 1], value));
}

let largest = [], largestOf = null;
function showVector() {
  const { state: values = [], session_id: sessionId = null } = page.layers?.header ?? {}, list = byId("vector");
  if (largestOf !== sessionId) [largest, largestOf] = [[], sessionId];
  largest = values.map((value, index) => Math.max(largest[index] ?? 1e-6, Math.abs(value ?? 0)));
  while (list.children.length > values.length) list.lastChild.remove();
  while (list.children.length < values.length) {
    const row = document.createElement("li");
    row.append(String(list.children.length), document.createElement("i"), document.createElement("b"));
    list.append(row);
  }
  values.forEach((value, index) => {
    const row = list.children[index];
    row.dataset.sign = value < 0 ? "-" : "+";
    row.style.setProperty("--size", Math.abs(value ?? 0) / largest[index]);
    rewrite(row.lastChild, value === null ? "missing" : value.toFixed(3));
  });
}

function askForToken() {
  byId("ask").hidden = false;
  byId("ask-why").textContent = token.get() ? "That token is wrong." : "";
  byId("token").focus();
}

/* What people do. */

byId("ask").addEventListener("submit", event => {
  event.preventDefault();
  token.set(byId("token").value.trim());
  byId("token").value = "";
  byId("ask").hidden = true;
  page.wantsToken = false;
  poll();
});
byId("pause").addEventListener("click", () => {
  page.isPaused = !page.isPaused;
  byId("pause").setAttribute("aria-pressed", page.isPaused);
  if (page.isPaused) lookAt(null);
  poll();
});
byId("sessions").addEventListener("change", () => {
  page.shownAtMs = null; // what is drawn is not what was asked for
  lookAt(null); // and nothing of it may be drawn while the list is asked for
  say();
  poll();
});
document.querySelector(".overlays").addEventListener("input", redraw);
document.addEventListener("visibilitychange", poll); // nobody looks at a hidden page, so nothing is made for it
addEventListener("themechange", () => charts.draw());

setInterval(() => { say(); showVector(); if (!isCalm.matches) charts.draw(); }, TICK_MS);
setInterval(() => { if (isCalm.matches) charts.draw(); }, POLL_MS);
(async () => { for (;;) { if (!page.wantsToken) await poll(); await new Promise(next => setTimeout(next, POLL_MS)); } })();
