// Reconstructions of a session, as they are made.

import { decodedPng } from "./pictures.js";

const PAUSE_MS = 50, TROUBLE_PAUSE_MS = 1000;

/** Call `onPicture({frameId, luma, modelVersion})` for each; returns a function that ends it. */
export function watch(sessionId, token, onPicture) {
  let isOver = false;
  (async () => {
    for (let last = -1; !isOver; ) {
      const picture = await newest(sessionId, token).catch(() => null);
      if (picture && picture.frameId !== last && !isOver) onPicture(picture);
      last = picture?.frameId ?? last;
      await new Promise(next => setTimeout(next, picture ? PAUSE_MS : TROUBLE_PAUSE_MS));
    }
  })();
  return () => { isOver = true; };
}

async function newest(sessionId, token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const reply = await fetch(`../api/sessions/${sessionId}/reconstruction.png`, { headers });
  if (!reply.ok) return null;
  const { luma } = await decodedPng(await reply.blob());
  return { frameId: Number(reply.headers.get("X-Frame-Id")), luma, modelVersion: reply.headers.get("X-Model-Version") };
}
