// The words and figures of the page.

import { Chart } from "../charts.js";
import { byId, rewrite } from "../words.js";
import { Rate, Recent } from "./recent.js";

const MEAN_SECS = 5;
const UNANSWERED_SECS = 3;
/** A message that the server refused is told for so long. */
const REFUSED_MS = 3000;

const shown = (value, digits = 1, unit = "") => (value === null ? "–" : `${value.toFixed(digits)}${unit}`);
export const write = (id, text) => rewrite(byId(id), text);
const amount = bytes => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(2)} MB`);

export class Panel {
  #psnrs = { ours: new Recent(MEAN_SECS), prior: new Recent(MEAN_SECS), flat: new Recent(MEAN_SECS) };
  #chart = new Chart(byId("chart"), {
    title: "PSNR, dB",
    series: [
      { name: "rebuilt", colour: "accent" },
      { name: "interpolated", colour: "sample" },
      { name: "flat gray", colour: "ink-soft" },
    ],
    digits: 1,
    fromZero: false,
  });
  /** Why the server gives no pictures; empty where it does. */
  refusal = "";
  #unreadable = "";
  /** What the server said of the message that it refused last. */
  #refused = { text: "", untilMs: 0 };
  #latencies = new Recent(MEAN_SECS);
  #frames = new Rate();
  #rates = { samples: new Rate(), keyframes: new Rate(), down: new Rate() };

  takeLatency(latencyMs) {
    this.#latencies.add(latencyMs);
  }

  /** A ProtocolError that the connection survives. */
  takeRefused({ message, retryAfterSecs }) {
    this.#refused = { text: message, untilMs: performance.now() + (retryAfterSecs ? 1000 * retryAfterSecs : REFUSED_MS) };
  }

  /** Why the newest picture cannot be shown. */
  takeUnreadable(reason) {
    this.#unreadable = reason;
  }

  /** {ours, prior, flat} in dB, of one frame. */
  takeQuality(psnrs) {
    this.#unreadable = "";
    for (const [name, value] of Object.entries(psnrs)) this.#psnrs[name].add(value);
    this.#chart.add(performance.now(), [psnrs.ours, psnrs.prior, psnrs.flat]);
    byId("reconstruction-psnr").textContent = shown(psnrs.ours, 1, " dB");
    byId("prior-psnr").textContent = shown(psnrs.prior, 1, " dB");
  }

  /** Once a second or so; the chart ends at `nowMs`. */
  show(client, sender, { width, height }, nowMs) {
    this.#showState(client, sender);
    this.#chart.draw(nowMs, []);
    this.#showFacts(client, sender, width * height);
    write("fps-value", `${sender.wantedFps}${client.targetFps && client.targetFps < sender.wantedFps ? `, the server wants ${client.targetFps}` : ""}`);
    if (!client.ack) return;
    write("lead-samples", String(client.ack.sample_count));
    write("lead-share", String(Math.round((width * height) / client.ack.sample_count)));
  }

  #showState(client, sender) {
    const unseen = this.refusal ? `No pictures: ${this.refusal}` : this.#unreadable && `What the server shows is ${this.#unreadable}`;
    const [state, text, secs = ""] = truthOf(client, sender.unansweredSinceMs, this.#refused, unseen);
    byId("state").dataset.state = state;
    write("state-text", text);
    write("state-secs", secs);
    document.body.classList.toggle("is-away", state === "lost");
  }

  #showFacts(client, sender, pixels) {
    const fps = this.#frames.at(sender.framesSent);
    const samples = this.#rates.samples.at(client.bytes.samples);
    const keyframes = this.#rates.keyframes.at(client.bytes.keyframes);
    const down = this.#rates.down.at(client.bytes.down);
    const raw = fps * pixels;
    const isLearned = client.ack?.checkpoint_loaded;
    const [ours, prior, flat] = ["ours", "prior", "flat"].map(name => this.#psnrs[name].mean());
    const facts = {
      "Rebuilt, mean of 5 s": [shown(ours, 2, " dB"), `interpolated ${shown(prior, 2)}, flat gray ${shown(flat, 2)}`],
      "Samples, a second": [amount(samples), raw && samples ? `1/${Math.round(raw / samples)} of raw gray video, ${amount(raw)}` : "raw gray video –"],
      "Whole frames, a second": [amount(keyframes), client.ack?.keyframe_interval ? `every ${client.ack.keyframe_interval}th, to learn from` : "none are asked for"],
      "Places and maps, a second": [amount(down), "from the server"],
      "Frames": [`${shown(fps)} a second`, `${client.newestSet?.u.length ?? "–"} samples each`],
      "Latency": [shown(this.#latencies.median(), 0, " ms"), "frame sent until its answer came"],
      "Model": [client.newestSet?.modelVersion ?? client.ack?.model_version ?? "–", isLearned === false ? "no checkpoint: interpolation alone" : "it expects " + shown(client.newestSet?.predictedPsnrDb ?? null, 1, " dB")],
      "Session": [client.sessionId?.slice(0, 8) ?? "–", `recorded up to frame ${client.lastRecordedFrameId < 0 ? "–" : client.lastRecordedFrameId}`],
    };
    writeFacts(byId("facts"), Object.entries(facts));
  }
}

/** How things are, in words, and for how many seconds: those are shown, but not said each second. */
function truthOf(client, unansweredSinceMs, refused, unseen) {
  const waitSecs = Math.ceil(Math.max(0, client.retryAtMs - Date.now()) / 1000);
  const silentSecs = unansweredSinceMs === null ? 0 : (performance.now() - unansweredSinceMs) / 1000;
  if (client.state === "waiting") return ["lost", `No connection: ${client.reason}`, `Next try in ${waitSecs} s`];
  if (client.state === "refused") return ["lost", `Refused: ${client.reason}`];
  if (client.state === "connecting" && client.reason) return ["lost", `No connection: ${client.reason}`, "Trying…"];
  if (client.state === "stopped") return client.reason ? ["lost", `Stopped: ${client.reason}`] : ["stale", "Goes on when this tab is seen"];
  if (client.state !== "streaming") return ["stale", "Connecting…"];
  if (client.pauseMs) return ["paused", `The server wants a pause: ${refused.text}`, `${Math.ceil(client.pauseMs / 1000)} s`];
  if (performance.now() < refused.untilMs) return ["stale", `The server refuses what is sent: ${refused.text}`];
  if (silentSecs > UNANSWERED_SECS) return ["stale", "Connected, but no answer", `for ${Math.round(silentSecs)} s`];
  if (client.isBacklogged) return ["stale", "The network is slower than the game"];
  if (unseen) return ["stale", unseen];
  return ["live", client.resumed ? `Connected, resumed ${client.resumed} ×` : "Connected"];
}

/** facts: [name, [value, detail]] of each, always of the same names. */
function writeFacts(list, facts) {
  if (!list.children.length) list.append(...facts.map(factOf));
  facts.forEach(([, [value, detail]], index) => {
    const { firstChild: shownValue, lastChild: small } = list.children[index].lastChild;
    rewrite(shownValue, value);
    rewrite(small, detail);
  });
}

/** The box of a fact, with nothing told yet. */
function factOf([name]) {
  const [box, term, fact, small] = ["div", "dt", "dd", "small"].map(tag => document.createElement(tag));
  term.textContent = name;
  fact.append("", small);
  box.append(term, fact);
  return box;
}
