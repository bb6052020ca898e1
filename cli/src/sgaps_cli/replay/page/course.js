// PSNR of A and B over the recording, where true frames tell it.

import { Chart } from "./charts.js";

const NAMES = ["A", "B"];
const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;
const signed = value => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)} dB`;

export class Course extends Chart {
  constructor(parent) {
    super(parent, {
      title: "PSNR of the true frames", unit: "dB", digits: 2, fromZero: false, gapMs: Infinity,
      series: [{ name: "A", colour: "side-a" }, { name: "B", colour: "side-b" }],
    });
    this.scores = [new Map(), new Map()];
    this.position = 0;
  }

  /** scores: for A and for B a map of positions to dB; wanted: how many there will be. */
  show({ frames, position, scores, wanted }) {
    Object.assign(this, { scores, position, wanted, windowMs: Math.max(1, frames - 1) });
    this.series.forEach((one, index) => {
      one.points = [...scores[index]].filter(([, psnr]) => psnr !== null).sort(([a], [b]) => a - b);
    });
    this.draw(this.windowMs, [{ atMs: position }]);
  }

  _say() {
    this.series.forEach(({ value }, index) => { value.textContent = this.format(this.scores[index].get(this.position)); });
    this.big.textContent = this._sum();
    this.canvas.setAttribute("aria-label", `${this.title}: ${this.big.textContent}`);
  }

  _sum() {
    const [ours, theirs] = this.scores;
    const tried = [...ours.keys()].filter(at => theirs.has(at));
    const both = tried.filter(at => ours.get(at) !== null && theirs.get(at) !== null);
    if (!this.wanted) return "no true frame was recorded";
    if (!both.length) return tried.length < this.wanted ? "measuring…" : `none of ${this.wanted} true frames can be measured for both`;
    const means = [ours, theirs].map(one => mean(both.map(at => one.get(at))));
    const how = both.length < this.wanted ? `${both.length} of ${this.wanted} frames` : `all ${this.wanted} frames`;
    return `${NAMES.map((name, index) => `${name} ${means[index].toFixed(2)}`).join(", ")}: ${signed(means[0] - means[1])} for A, mean of ${how}`;
  }
}
