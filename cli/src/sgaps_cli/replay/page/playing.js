// Plays at the recorded rate: frames that come too late for it are left out.

/** The last position whose time has come. times: seconds, never falling. */
export function positionAt(times, secs) {
  let low = 0, high = times.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (times[middle] <= secs) low = middle;
    else high = middle - 1;
  }
  return low;
}

export class Playing {
  /** goTo(position) → a promise, kept when it is shown; onChange() is called when it begins and ends. */
  constructor({ goTo, onChange }) {
    Object.assign(this, { goTo, onChange, run: null });
  }

  get isOn() {
    return this.run !== null;
  }

  stop() {
    if (!this.run) return;
    this.run = null;
    this.onChange();
  }

  /** From a position on; from the start where that is the last. */
  async start(times, position) {
    const run = this.run = {}, last = times.length - 1;
    let at = position < last ? position : 0;
    const startedAtMs = performance.now() - times[at] * 1000;
    this.onChange();
    if (at !== position) await this.goTo(at);
    while (this.run === run && at < last) {
      const secs = (performance.now() - startedAtMs) / 1000, due = positionAt(times, secs);
      if (due > at) await this.goTo(at = due);
      else await new Promise(next => setTimeout(next, (times[at + 1] - secs) * 1000));
    }
    if (this.run === run) this.stop();
  }
}
