// Frames on their way to the server: when one is due, which set it is sampled at, and what is kept of it until
// its reconstruction comes.

import { encodedPng } from "./pictures.js";
import { meansOf, rectanglesOf } from "./squares.js";

/** 20 s of them at ten a second; 15 MB. */
const SENT_KEPT = 200;

export class Sender {
  /** The player's wish; the server's `target_fps` is never exceeded. */
  wantedFps = 10;
  framesSent = 0;
  /** When the first frame was sent that nothing was answered to since; null where none waits. */
  unansweredSinceMs = null;
  #client;
  #world;
  #size;
  #sent = new Map();
  #rectangles = new WeakMap();
  #nextAtMs = 0;
  #isBusy = false;

  constructor(client, world, size) {
    [this.#client, this.#world, this.#size] = [client, world, size];
  }

  get fps() {
    return Math.min(this.wantedFps, this.#client.targetFps);
  }

  /** The pixels of each sample of a set. */
  rectanglesOf(set) {
    if (!this.#rectangles.has(set)) this.#rectangles.set(set, rectanglesOf(set, this.#size.width, this.#size.height));
    return this.#rectangles.get(set);
  }

  /** A frame that was sent and not forgotten: {luma, set, values, sentAtMs}. */
  sent(frameId) {
    return this.#sent.get(frameId);
  }

  takeAnswer() {
    this.unansweredSinceMs = null;
  }

  /** A connection ended: no answer comes to what went over it, and its outage is no wait for one. */
  takeLoss() {
    this.unansweredSinceMs = null;
  }

  forget() {
    this.#sent.clear();
    this.unansweredSinceMs = null;
  }

  /** Send the frame that was drawn last, if one is due and can go. */
  async sendIfDue(nowMs) {
    const { newestSet: set, isReady } = this.#client;
    if (this.#isBusy || !isReady || !set || nowMs < this.#nextAtMs) return;
    // Keeps the mean rate where the screen's frames do not divide it, but makes up for no more than one.
    this.#nextAtMs = Math.max(this.#nextAtMs + 1000 / this.fps, nowMs);
    this.#isBusy = true;
    try {
      await this.#send(set, this.#world.stateVector);
    } finally {
      this.#isBusy = false;
    }
  }

  /** The set is taken before the frame is read: another one may come meanwhile, and the two belong together. */
  async #send(set, state) {
    const timestampSecs = Date.now() / 1000;
    const luma = await this.#world.readLuma();
    if (this.#world.isLost) return; // what was read is black then
    const values = meansOf(luma, this.#size.width, this.rectanglesOf(set));
    const isWhole = this.#client.isReady && this.#client.wantsKeyframe;
    const png = isWhole ? await encodedPng(luma, this.#size.width, this.#size.height) : null;
    const sentAtMs = performance.now();
    const frameId = this.#client.send({ set, state, values, timestampSecs }, png);
    if (frameId === null) return;
    this.framesSent += 1;
    this.unansweredSinceMs ??= sentAtMs;
    this.#sent.set(frameId, { luma, set, values, sentAtMs });
    if (this.#sent.size > SENT_KEPT) this.#sent.delete(this.#sent.keys().next().value);
  }
}
