// The values of a state vector, each with a bar that is as long as it is large.

import { rewrite } from "./words.js";

export class Vector {
  /** list: an empty <ol>. */
  constructor(list) {
    Object.assign(this, { list, largest: [], sessionId: null });
  }

  /** Bars are measured by the largest value that the session had at their place; null is a missing one. */
  show(values, sessionId) {
    if (this.sessionId !== sessionId) Object.assign(this, { largest: [], sessionId });
    this.largest = values.map((value, index) => Math.max(this.largest[index] ?? 1e-6, Math.abs(value ?? 0)));
    while (this.list.children.length > values.length) this.list.lastChild.remove();
    while (this.list.children.length < values.length) this.list.append(this._row());
    values.forEach((value, index) => {
      const row = this.list.children[index];
      row.dataset.sign = value < 0 ? "-" : "+";
      row.style.setProperty("--size", Math.abs(value ?? 0) / this.largest[index]);
      rewrite(row.lastChild, value === null ? "missing" : value.toFixed(3));
    });
  }

  _row() {
    const row = document.createElement("li");
    row.append(String(this.list.children.length), document.createElement("i"), document.createElement("b"));
    return row;
  }
}
