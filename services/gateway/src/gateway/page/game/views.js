// Reconstructions of a session, as they are made.

import { Look, Unauthorized } from "../gateway.js";
import { readView } from "../wire.js";
import { decodedPng } from "./pictures.js";

const PAUSE_MS = 1000;

/**
 * Call `onPicture({frameId, luma})` for each, and `onUnreadable(reason)` for one that cannot be read; returns a
 * function that ends it. It ends by itself where the token is refused.
 */
export function watch(sessionId, onPicture, onUnreadable) {
  let [look, timer, isOver] = [null, 0, false];
  const show = async ({ header, reconstruction }) => {
    const { luma } = await decodedPng(new Blob([reconstruction], { type: "image/png" }));
    if (!isOver) onPicture({ frameId: header.frame_id, luma });
  };
  const view = buffer => {
    let read;
    try {
      read = readView(buffer);
    } catch (error) {
      return onUnreadable(error.message);
    }
    show(read);
  };
  const begin = () => { look = new Look(sessionId, { view, status: () => {}, end }); };
  const end = error => {
    if (error instanceof Unauthorized) return; // the same token would be refused again
    timer = setTimeout(begin, Math.max(PAUSE_MS, 1000 * (error.retryAfterSecs ?? 0)));
  };
  begin();
  return () => {
    isOver = true;
    clearTimeout(timer);
    look.close();
  };
}
