// The replay page: which recording, which frame, which two checkpoints.

import { catalog, frameOf, Lost, recordingOf, Refused } from "./api.js";
import { Address } from "./address.js";
import { Course } from "./course.js";
import { Measuring } from "./measuring.js";
import { Playing } from "./playing.js";
import { paintable, show, SIDES } from "./show.js";
import { readView } from "./wire.js";
import { byId, rewrite } from "./words.js";

const SLOW_MS = 400;
const selects = SIDES.map(side => byId(`checkpoint-${side}`));
const address = new Address();
const course = new Course(byId("course"));
const measuring = new Measuring({ isBusy: () => page.showing !== null || playing.isOn, onScore: drawCourse, onLost: fail });
const playing = new Playing({ goTo, onChange: say });

const page = {
  listed: null,        // the catalog
  recording: null,     // of it, the one that is looked through
  frames: null,        // what is known of its frames: frame_ids, times_secs, keyframes, unsampled
  position: 0,
  results: null,       // what is drawn
  drawn: 0,            // and of which position
  showing: null,       // a promise while a frame is asked for and drawn
  isWanted: false,     // whether another one is to be drawn afterwards
  askedAtMs: 0,
  isPairChosen: false, // by hand: then it stays with the next recording
  trouble: "",         // why nothing can be shown
  gone: "",            // what a link names that is not here; while it is told, the link stays in the address
};

const pair = () => selects.map(select => select.value);

/* Frames. */

/** Shown when the promise is kept, or a newer one in its place. */
function goTo(position) {
  if (!page.frames) return Promise.resolve();
  page.position = Math.min(Math.max(0, position), page.frames.frame_ids.length - 1);
  page.isWanted = true;
  page.showing ??= showWanted();
  say();
  drawCourse();
  return page.showing;
}

async function showWanted() {
  try {
    while (page.isWanted) {
      page.isWanted = false;
      page.askedAtMs = performance.now();
      await showOne(page.recording, page.frames, page.position, pair());
    }
  } finally {
    page.showing = null;
    say();
  }
}

async function showOne(recording, frames, position, checkpoints) {
  const asked = checkpoints.map((checkpoint, index) =>
    index && checkpoint === checkpoints[0] ? null : rebuilt(recording.recording_id, position, checkpoint));
  const [ours, theirs] = await Promise.all(asked);
  if (page.frames !== frames) return free([ours, theirs]); // another recording was chosen meanwhile
  free(page.results);
  page.results = [ours, theirs ?? ours];
  const lost = page.results.find(({ error }) => error instanceof Lost);
  if (lost) return fail(lost.error);
  if (page.trouble) measuring.start(recording.recording_id, frames.keyframes, pair()); // which the trouble had ended
  page.trouble = "";
  page.drawn = position;
  note(position, checkpoints);
  redraw();
  await new Promise(requestAnimationFrame);
}

function free(results) {
  for (const result of results ?? []) result?.layers?.free();
}

/** {layers} or {error}. */
async function rebuilt(recording, position, checkpoint) {
  try {
    return { layers: await paintable(readView(await frameOf({ recording, position, checkpoint }))) };
  } catch (error) {
    return { error };
  }
}

/** What was measured on the way need not be measured again. */
function note(position, checkpoints) {
  page.results.forEach(({ layers }, index) => {
    if (layers?.header.true_frame) measuring.of(checkpoints[index]).set(position, layers.header.measured_psnr);
  });
}

function redraw() {
  if (!page.results) return;
  const position = page.drawn;
  const shown = new Set([...document.querySelectorAll(".overlays :checked")].map(box => box.name));
  const { keyframes, unsampled } = page.frames;
  reveal(true);
  show(page.results, shown, { isUnsampled: unsampled.includes(position), nearest: nearestOf(keyframes, position) });
  byId("pictures").dataset.position = position;
  drawCourse();
}

/** What is drawn is of this recording, or out of sight; it keeps its place, so nothing jumps. */
function reveal(isShown) {
  for (const id of ["pictures", "course", "where"]) byId(id).style.visibility = isShown ? "" : "hidden";
}

const nearestOf = (keyframes, position) =>
  keyframes.length ? keyframes.reduce((best, at) => Math.abs(at - position) < Math.abs(best - position) ? at : best) : null;

function drawCourse() {
  if (!page.frames) return;
  course.show({
    frames: page.frames.frame_ids.length, position: page.position,
    scores: pair().map(checkpoint => measuring.of(checkpoint)), wanted: page.frames.keyframes.length,
  });
}

/* Recordings and checkpoints. */

/** Nothing of the recording that was looked through is shown any more. */
function turnTo(recording, gone) {
  playing.stop();
  measuring.stop();
  free(page.results);
  Object.assign(page, { recording, gone, frames: null, results: null, isWanted: false, trouble: "" });
  delete byId("pictures").dataset.position;
  reveal(false);
  byId("recordings").value = recording?.recording_id ?? "";
  byId("facts").textContent = recording ? factsOf(recording) : "";
}

async function choose(recording, position = 0, gone = "") {
  const { recording_id: recordingId } = recording;
  turnTo(recording, gone);
  if (!gone) address.tell({ recording: recordingId });
  if (!page.isPairChosen) selects.forEach((select, index) => { select.value = recording.pair[index]; });
  say();
  try {
    const frames = await recordingOf(recordingId);
    if (page.recording !== recording) return;
    page.frames = frames;
    byId("position").max = frames.frame_ids.length - 1;
    measuring.start(recordingId, frames.keyframes, pair());
    goTo(position);
  } catch (error) {
    if (page.recording === recording) fail(error);
  }
}

function factsOf({ frames, keyframes, damaged, recorded_at_secs: at, size_bytes: size }) {
  const day = new Date(at * 1000).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });
  const whole = keyframes === frames ? "all whole" : `${keyframes} whole`;
  const lost = damaged ? ` · ${damaged} damaged segment${damaged > 1 ? "s" : ""} left out (sgaps recordings repair)` : "";
  if (!frames) return `${damaged ? "no frame can be read" : "no frames"} · ${(size / 1e6).toFixed(1)} MB${lost}`;
  return `${frames} frames, ${whole} · ${(size / 1e6).toFixed(1)} MB · ${day}${lost}`;
}

function comparePair() {
  page.isPairChosen = true;
  page.gone = "";
  measuring.start(page.recording.recording_id, page.frames.keyframes, pair());
  goTo(page.position);
}

function checkpointText({ key, version, is_shipped: isShipped, is_in_force: isInForce, val_psnr_db: psnr, problem }) {
  if (!key) return "no checkpoint: interpolation alone";
  const notes = [isInForce && "in force", isShipped && "shipped", psnr !== null && `${psnr.toFixed(2)} dB`, problem && "cannot be used"];
  return [`${key} ${version}`, ...notes.filter(Boolean)].join(" · ");
}

/* How things are. */

function fail(error) {
  playing.stop();
  measuring.stop();
  page.trouble = error.message;
  say();
}

function state() {
  if (page.trouble) return ["lost", "Nothing can be shown"];
  if (!page.frames) return ["waiting", "Reading…"];
  if (page.showing && performance.now() - page.askedAtMs > SLOW_MS) return ["waiting", "Rebuilding…"];
  return playing.isOn ? ["live", "Playing"] : ["paused", "Paused"];
}

function say() {
  const [name, text] = state(), { frames, position } = page;
  byId("state").dataset.state = name;
  rewrite(byId("state-text"), text);
  byId("notice").hidden = !page.trouble && !page.gone;
  rewrite(byId("notice"), page.trouble || page.gone);
  byId("play").textContent = playing.isOn ? "Pause" : "Play";
  for (const id of ["position", "back", "play", "forth"]) byId(id).disabled = !frames;
  byId("next-truth").disabled = !frames?.keyframes.length;
  for (const select of selects) select.disabled = !frames;
  if (frames) sayWhere(frames, position);
}

function sayWhere({ frame_ids: ids, times_secs: times }, position) {
  const count = ids.length, strong = Object.assign(document.createElement("b"), { textContent: position + 1 }), told = new DocumentFragment();
  told.append("Frame ", strong, ` of ${count} · ${times[position].toFixed(1)} s of ${times.at(-1).toFixed(1)} · id ${ids[position]}`);
  byId("position").value = position;
  byId("position").setAttribute("aria-valuetext", `frame ${position + 1} of ${count}`);
  if (byId("where").textContent !== told.textContent) byId("where").replaceChildren(told);
  const [a, b] = pair();
  if (!playing.isOn && !page.gone) address.tell({ recording: page.recording.recording_id, frame: position, a, b });
}

/* What people do. */

const move = position => { playing.stop(); page.gone = ""; goTo(position); };
const step = count => move(page.position + count);
const toggle = () => {
  if (playing.isOn) return playing.stop();
  page.gone = "";
  if (page.frames) playing.start(page.frames.times_secs, page.position);
};
const nextTruth = () => {
  const next = page.frames?.keyframes.find(at => at > page.position) ?? page.frames?.keyframes[0];
  if (next !== undefined) move(next);
};
const KEYS = {
  ArrowLeft: () => step(-1), ArrowRight: () => step(1), PageDown: () => step(-10), PageUp: () => step(10),
  Home: () => step(-Infinity), End: () => step(Infinity), " ": toggle, t: nextTruth, T: nextTruth,
};

addEventListener("keydown", event => {
  if (event.ctrlKey || event.altKey || event.metaKey || !KEYS[event.key]) return;
  // They have a use of their own for these: all keys choose in a list, the space bar presses.
  if (event.target.closest("select") || (event.key === " " && event.target.closest("button, a, [type=checkbox]"))) return;
  event.preventDefault();
  KEYS[event.key]();
});
byId("position").addEventListener("input", () => move(byId("position").valueAsNumber));
byId("back").addEventListener("click", () => step(-1));
byId("forth").addEventListener("click", () => step(1));
byId("play").addEventListener("click", toggle);
byId("next-truth").addEventListener("click", nextTruth);
byId("recordings").addEventListener("change", () => choose(listedAs(byId("recordings").value)));
for (const select of selects) select.addEventListener("change", comparePair);
document.querySelector(".overlays").addEventListener("input", () => redraw());
course.canvas.addEventListener("click", event => {
  if (page.frames) move(Math.round(course.shareAt(event) * (page.frames.frame_ids.length - 1)));
});
addEventListener("themechange", drawCourse);
new ResizeObserver(drawCourse).observe(byId("course"));
setInterval(say, SLOW_MS);

function offer({ recordings, checkpoints, folder }) {
  byId("folder").textContent = folder;
  byId("recordings").replaceChildren(...recordings.map(({ key, session, frames, damaged, recording_id: id }) =>
    new Option(`${key} · ${session} · ${damaged && !frames ? "damaged" : `${frames} frames`}`, id)));
  for (const select of selects) select.replaceChildren(...checkpoints.map(one => new Option(checkpointText(one), one.checkpoint_id)));
}

const listedAs = recordingId => page.listed.recordings.find(one => one.recording_id === recordingId);

/** What a link wants; what of it is gone is told. A pair that the page would begin with was not chosen by hand. */
function follow(wanted) {
  const recordingId = wanted.get("recording"), recording = recordingId === null ? page.listed.recordings[0] : listedAs(recordingId);
  if (!recording) return miss(recordingId);
  const asked = SIDES.map(side => wanted.get(side)).filter(id => id !== null);
  const gone = asked.filter(id => !page.listed.checkpoints.some(one => one.checkpoint_id === id));
  page.isPairChosen = asked.length === SIDES.length && !gone.length && asked.some((id, index) => id !== recording.pair[index]);
  if (page.isPairChosen) selects.forEach((select, index) => { select.value = asked[index]; });
  const told = gone.length ? `The link names ${gone.join(" and ")}, which is not here any more; shown is what the recording begins with.` : "";
  choose(recording, Number.parseInt(wanted.get("frame"), 10) || 0, told);
}

function miss(recordingId) {
  turnTo(null, "");
  fail(new Refused(`The link names the recording ${recordingId}, which is not here any more; choose another one.`));
}

(async () => {
  try {
    page.listed = await catalog();
  } catch (error) {
    return fail(error);
  }
  offer(page.listed);
  if (!page.listed.recordings.length) return fail(new Refused("There are no recordings here any more. Make one: sgaps capture doom/my_way_home"));
  follow(new URLSearchParams(location.hash.slice(1)));
  address.listen(follow);
})();
