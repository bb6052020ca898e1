// Measures A and B on the true frames of a recording, one by one, while nobody waits for a picture.

import { Refused, scoreOf } from "./api.js";

const BUSY_MS = 60;

/** Positions in such an order that a few of them already are spread over all. */
export function coarseToFine(positions) {
  const found = [], isIn = new Set();
  for (let step = 2 ** Math.ceil(Math.log2(Math.max(1, positions.length))); step >= 1; step /= 2) {
    for (let index = 0; index < positions.length; index += step) {
      if (!isIn.has(index)) found.push(positions[index]);
      isIn.add(index);
    }
  }
  return found;
}

export class Measuring {
  /** isBusy() → whether somebody waits; onScore() is called after each; onLost(error) where the server went. */
  constructor({ isBusy, onScore, onLost }) {
    Object.assign(this, { isBusy, onScore, onLost, scores: new Map(), recording: null, run: null });
  }

  /** Position → dB of a checkpoint, null where it cannot be told. */
  of(checkpoint) {
    if (!this.scores.has(checkpoint)) this.scores.set(checkpoint, new Map());
    return this.scores.get(checkpoint);
  }

  stop() {
    this.run = null;
  }

  /** Go on until all is measured, or another recording or pair is to be. */
  async start(recording, keyframes, checkpoints) {
    if (this.recording !== recording) this.scores.clear();
    this.recording = recording;
    const run = this.run = {};
    for (const position of coarseToFine(keyframes)) {
      for (const checkpoint of new Set(checkpoints)) {
        if (this.of(checkpoint).has(position)) continue;
        while (this.run === run && (this.isBusy() || document.hidden)) await new Promise(next => setTimeout(next, BUSY_MS));
        if (this.run !== run) return;
        try {
          await this._measure({ recording, position, checkpoint }, run);
        } catch (error) {
          if (this.run === run) this.onLost(error);
          return;
        }
      }
    }
  }

  async _measure(place, run) {
    let psnr = null;
    try {
      psnr = await scoreOf(place);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
    }
    if (this.run !== run) return;
    this.of(place.checkpoint).set(place.position, psnr);
    this.onScore();
  }
}
