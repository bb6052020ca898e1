// What is charted of a session.

import { Chart, WINDOW_MS } from "./charts.js";
import { sampleCount } from "./wire.js";

const last = values => values.findLast(value => value !== undefined);

export class Charts {
  constructor(parent) {
    this.quality = new Chart(parent, {
      title: "Quality, PSNR", unit: "dB", digits: 1, fromZero: false,
      series: [{ name: "expected by the model", colour: "accent" }, { name: "measured", colour: "good" }],
      headline: ([expected, measured]) => (measured ?? expected)?.toFixed(1).concat(" dB") ?? "–",
    });
    this.latency = new Chart(parent, {
      title: "Latency by stage", unit: "ms", stacked: true,
      series: [{ name: "queue", colour: "violet" }, { name: "rebuild", colour: "accent" }, { name: "choose, deliver", colour: "sample" }],
      headline: stages => last(stages) === undefined ? "–" : `${stages.reduce((sum, value) => sum + (value ?? 0), 0).toFixed(0)} ms`,
    });
    this.bytes = new Chart(parent, {
      title: "Bytes per second", unit: "B/s",
      series: [{ name: "up", colour: "sample" }, { name: "down", colour: "accent" }],
      headline: ([up]) => up === undefined ? "–" : `${(up / 1000).toFixed(1)} kB/s up`,
    });
    this.samples = new Chart(parent, {
      title: "Samples per frame", series: [{ name: "samples", colour: "sample" }],
      headline: ([count]) => count === undefined ? "–" : count.toLocaleString("en"),
    });
    this.frames = new Chart(parent, {
      title: "Frames per second", digits: 1,
      series: [{ name: "received", colour: "accent" }, { name: "answered", colour: "good" }, { name: "dropped", colour: "bad" }],
      headline: ([, answered]) => answered === undefined ? "–" : `${answered.toFixed(1)} answered`,
    });
    this.model = new Chart(parent, {
      title: "Model", series: [{ name: "swaps in this minute", colour: "violet" }],
      headline: ([swaps]) => swaps === undefined ? "–" : this.version,
    });
    this.all = [this.quality, this.latency, this.bytes, this.samples, this.frames, this.model];
    this.turnTo(null);
  }

  /** Another session has nothing to do with what was drawn. */
  turnTo(sessionId) {
    if (sessionId === this.sessionId) return;
    [this.sessionId, this.version, this.marks, this.before] = [sessionId, null, [], null];
    for (const chart of this.all) chart.clear();
  }

  /** Of each frame. */
  add(header) {
    this.turnTo(header.session_id);
    const nowMs = performance.now(), { queue, inference, answer } = header.stages_ms;
    if (this.version !== null && this.version !== header.model_version) this.marks.push({ atMs: nowMs });
    this.version = header.model_version;
    this.marks = this.marks.filter(({ atMs }) => atMs > nowMs - WINDOW_MS);
    this.quality.add(nowMs, [header.predicted_psnr, header.measured_psnr]);
    if (answer !== null) this.latency.add(nowMs, [queue, inference, answer]);
    this.samples.add(nowMs, [sampleCount(header)]);
    this.model.add(nowMs, [this.marks.length]);
    this.count(header.counters, header.session_id);
  }

  /** Counters become rates, once a second. */
  count(counters, sessionId) {
    this.turnTo(sessionId);
    const nowMs = performance.now(), { before } = this;
    const secs = before ? (nowMs - before.nowMs) / 1000 : 0;
    if (before && secs < 1) return;
    this.before = { counters, nowMs };
    if (!before) return;
    const rate = name => Math.max(0, counters[name] - before.counters[name]) / secs;
    this.bytes.add(nowMs, [rate("bytes_up"), rate("bytes_down")]);
    this.frames.add(nowMs, [rate("frames_received"), rate("frames_answered"), rate("frames_dropped")]);
  }

  /** Of the minute that ends at `nowMs`. */
  draw(nowMs) {
    for (const chart of this.all) chart.draw(nowMs, this.marks);
  }
}
