// Figures of the last seconds.

/** [timeMs, value] pairs, no older than so many seconds. */
export class Recent {
  points = [];
  #secs;

  constructor(secs) {
    this.#secs = secs;
  }

  add(value, nowMs = performance.now()) {
    this.points.push([nowMs, value]);
    this.#forget(nowMs);
  }

  /** Of the last `secs`, or null where there is nothing. */
  mean(secs = this.#secs) {
    const values = this.#since(secs);
    return values.length ? values.reduce((sum, value) => sum + value) / values.length : null;
  }

  median(secs = this.#secs) {
    const values = this.#since(secs).sort((a, b) => a - b);
    return values.length ? values[Math.floor(values.length / 2)] : null;
  }

  #since(secs) {
    const nowMs = performance.now();
    this.#forget(nowMs);
    return this.points.filter(([timeMs]) => nowMs - timeMs <= 1000 * secs).map(([, value]) => value);
  }

  #forget(nowMs) {
    while (this.points.length && nowMs - this.points[0][0] > 1000 * this.#secs) this.points.shift();
  }
}

/** How much a counter grows in a second, over the last seconds. */
export class Rate {
  #recent = new Recent(5);

  /** The rate with the counter now at `total`; to be called now and then. */
  at(total) {
    this.#recent.add(total);
    const [first, last] = [this.#recent.points[0], this.#recent.points.at(-1)];
    return last[0] > first[0] ? (1000 * (last[1] - first[1])) / (last[0] - first[0]) : 0;
  }
}
