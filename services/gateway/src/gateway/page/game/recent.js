// Figures of the last seconds.

/** [timeMs, value] pairs, no older than so many seconds. */
export class Recent {
  points = [];
  #secs;

  constructor(secs) {
    this.#secs = secs;
  }

  add(value) {
    this.points.push([performance.now(), value]);
    this.#forget();
  }

  /** Null where there is nothing. */
  mean() {
    const values = this.#values();
    return values.length ? values.reduce((sum, value) => sum + value) / values.length : null;
  }

  median() {
    const values = this.#values().sort((a, b) => a - b);
    return values.length ? values[Math.floor(values.length / 2)] : null;
  }

  #values() {
    this.#forget();
    return this.points.map(([, value]) => value);
  }

  #forget() {
    while (this.points.length && performance.now() - this.points[0][0] > 1000 * this.#secs) this.points.shift();
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
