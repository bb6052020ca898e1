// Reconstructions of a session, as they are made.

import { Look, Refused, Unauthorized } from "../gateway.js";
import { readView } from "../wire.js";
import { decodedPng } from "./pictures.js";

const PAUSE_MS = 1000;

/**
 * Call `on.picture({frameId, luma})` for each, `on.unreadable(reason)` for one that cannot be read, and
 * `on.refused(reason)` where the server gives none, with an empty one when it does again; returns a function that ends
 * it. It ends by itself where the token is refused.
 */
export function watch(sessionId, on) {
  let [look, timer, isOver] = [null, 0, false];
  const view = buffer => pictureOf(buffer).then(
    picture => { if (!isOver) on.picture(picture); },
    error => { if (!isOver) on.unreadable(error.message); },
  );
  const begin = () => { look = new Look(sessionId, { view, status: () => on.refused(""), end }); };
  const end = error => {
    if (error instanceof Unauthorized) return; // the same token would be refused again
    if (error instanceof Refused) on.refused(error.message);
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
