// What the gateway lists of a session, in words.

import { rewrite, whole } from "./words.js";

/** list: a <dl>, empty where there is no session. */
export function showFacts(list, session) {
  const facts = session ? {
    Key: session.checkpoint_key, Client: session.client || "–", Picture: `${session.width} × ${session.height}`,
    "Playing for": `${Math.round(session.duration_secs)} s`, Frames: whole.format(session.frames_received),
    Answered: whole.format(session.frames_answered), Refused: whole.format(session.messages_refused),
    "Latency, p50 / p99": session.latency_p50_ms === null ? "–" : `${session.latency_p50_ms.toFixed(0)} / ${session.latency_p99_ms.toFixed(0)} ms`,
    Model: session.model_version ?? "–",
  } : {};
  const names = Object.keys(facts);
  if (list.children.length !== 2 * names.length) {
    list.replaceChildren(...names.flatMap(name => [Object.assign(document.createElement("dt"), { textContent: name }), document.createElement("dd")]));
  }
  Object.values(facts).forEach((value, index) => rewrite(list.children[2 * index + 1], value));
}
