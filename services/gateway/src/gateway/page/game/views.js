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
  const view = buffer => pictureOf(buffer).then(
    picture => { if (!isOver) onPicture(picture); },
    error => { if (!isOver) onUnreadable(error.message); },
  );
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

async function pictureOf(buffer) {
  const { header, reconstruction } = readView(buffer);
  const { luma } = await decodedPng(reconstruction);
  return { frameId: header.frame_id, luma };
}
