// The game's client without the game: plays frames of two values against the gateway at a URL until so many were
// answered, or it is refused, and prints what it saw.
import { Client } from "../../../services/gateway/src/gateway/page/game/client.js";
import { JSON_FORM } from "../../../services/gateway/src/gateway/page/game/protocol.js";

const FRAME_MS = 10;
const [url, wanted, keyframe] = process.argv.slice(2);
const saw = { states: [], refusals: [], answered: [], sent: [], sessions: [], pausedMs: 0 };

const start = { checkpointKey: "k", width: 8, height: 6, maxStateDim: 3, client: { name: "t", version: "1", features: [] }, token: "open sesame" };
const client = new Client({ url, forms: [JSON_FORM], start }, {
  onState({ state, reason, sessionId }) {
    saw.states.push(reason ? `${state}: ${reason}` : state);
    if (state === "streaming" && saw.sessions.at(-1) !== sessionId) saw.sessions.push(sessionId);
    if (state === "refused") end();
  },
  onCoordinates({ frameId }) {
    saw.answered.push(frameId);
    if (saw.answered.length >= Number(wanted)) end();
  },
  onRefusal({ code }) {
    saw.refusals.push(code);
    saw.pausedMs = Math.max(saw.pausedMs, client.pauseMs);
  },
});

function turn() {
  const { newestSet: set, isReady } = client;
  if (!isReady || !set) return;
  const png = keyframe && client.wantsKeyframe ? Uint8Array.of(1, 2, 3) : null;
  const frame = { set, state: Float32Array.of(1, 2, 3), values: new Uint8Array(set.u.length), timestampSecs: 1 };
  const frameId = client.send(frame, png);
  if (frameId !== null) saw.sent.push(frameId);
}

function end() {
  clearInterval(playing);
  client.stop();
  process.stdout.write(JSON.stringify({ ...saw, lastRecorded: client.lastRecordedFrameId, targetFps: client.targetFps }));
  process.exitCode = 0;
}

const playing = setInterval(turn, FRAME_MS);
client.start();
