// The game's client beside a socket, two clocks and a chance that the tests play; node --test runs it.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Client } from "../../../services/gateway/src/gateway/page/game/client.js";
import { JSON_FORM } from "../../../services/gateway/src/gateway/page/game/protocol.js";

const HOUR_MS = 3_600_000;
const START = { checkpointKey: "k", width: 8, height: 6, maxStateDim: 3, client: { name: "t", version: "1", features: [] } };
const ACK = {
  type: "session_start_ack", session_id: "s", checkpoint_loaded: true, sample_count: 1, max_state_dim: 4,
  target_fps: 10, model_version: "v", coordinate_set_id: 1, keyframe_interval: 0, resumed: false, last_frame_id: -1,
};
const SET = { type: "uv_coordinates", frame_id: -1, coords: [[0.5, 0.25]], coordinate_set_id: 1, model_version: "v" };

/** A client in the middle of a session. */
function streaming(t, chance = 0) {
  const rig = { wallMs: 1_764_000_000_000, nowMs: 5000, sent: [], sockets: 0 };
  t.mock.method(Date, "now", () => rig.wallMs);
  t.mock.method(performance, "now", () => rig.nowMs);
  t.mock.method(Math, "random", () => chance);
  t.mock.method(globalThis, "setTimeout", (due, ms) => { [rig.due, rig.waitsMs] = [due, ms]; });
  t.mock.method(globalThis, "setInterval", beat => { rig.beat = beat; });
  globalThis.WebSocket = class {
    protocol = JSON_FORM;
    bufferedAmount = 0;

    constructor() {
      rig.sockets += 1;
      rig.says = message => this.onmessage({ data: JSON.stringify(message) });
      rig.open = () => this.onopen();
    }

    send(raw) {
      rig.sent.push(JSON.parse(raw));
    }

    close() {}
  };
  const unheard = () => {};
  rig.client = new Client({ url: "ws://g", forms: [JSON_FORM], start: START }, { onState: unheard, onCoordinates: unheard, onRefusal: unheard });
  rig.client.start();
  rig.open();
  rig.says(ACK);
  rig.says(SET);
  assert.ok(rig.client.isReady);
  return rig;
}

for (const [chance, waitsMs] of [[0, 1100], [0.5, 1150]]) {
  test(`who is told the same pause does not come back as one: by a chance of ${chance} after ${waitsMs} ms`, t => {
    const rig = streaming(t, chance);
    rig.says({ type: "error", code: "shutting_down", message: "bye", fatal: true, retry_after_secs: 1 });
    assert.equal(rig.client.state, "waiting");
    assert.equal(rig.waitsMs, waitsMs);
    assert.equal(rig.client.retryAtMs, rig.wallMs + waitsMs);
  });
}

const BACK = { "seen again": client => { client.stop(); client.start(); }, "given another wish": client => client.restart({}) };
for (const [how, comeBack] of Object.entries(BACK)) {
  test(`a pause that the server asked for lasts though the page is ${how}`, t => {
    const rig = streaming(t);
    rig.says({ type: "error", code: "shutting_down", message: "bye", fatal: true, retry_after_secs: 3 });
    rig.nowMs += 1000;
    rig.wallMs += HOUR_MS;
    comeBack(rig.client);
    assert.deepEqual([rig.client.state, rig.client.reason, rig.waitsMs, rig.sockets], ["waiting", "bye", 2100, 1]);
    rig.nowMs += 2100;
    rig.due();
    assert.deepEqual([rig.client.state, rig.sockets], ["connecting", 2]);
    comeBack(rig.client);
    assert.deepEqual([rig.client.state, rig.sockets], ["connecting", 3], "it is over");
  });
}

for (const setMs of [-HOUR_MS, HOUR_MS]) {
  test(`a pause is as long when the clock is set by ${setMs} ms`, t => {
    const rig = streaming(t);
    rig.says({ type: "error", code: "overloaded", message: "full", fatal: false, retry_after_secs: 1 });
    rig.wallMs += setMs;
    assert.equal(rig.client.pauseMs, 1000);
    rig.nowMs += 1000;
    assert.ok(rig.client.isReady);
  });

  test(`a heartbeat waits as long when the clock is set by ${setMs} ms`, t => {
    const rig = streaming(t);
    rig.beat();
    const { timestamp } = rig.sent.at(-1);
    assert.equal(timestamp, rig.wallMs / 1000);
    rig.wallMs += setMs;
    assert.ok(rig.client.isReady);
    rig.nowMs += 1001;
    assert.ok(!rig.client.isReady);
    rig.beat();
    rig.says({ type: "heartbeat_ack", timestamp, server_time: 0, last_recorded_frame_id: -1, target_fps: 10 });
    assert.ok(rig.client.isReady);
    rig.nowMs += 2002;
    assert.ok(!rig.client.isReady, "the second one waits now, 1 s longer than the first one did");
  });
}

/** As a gateway says it whose workers end at once. */
const AWAY = { type: "error", code: "shutting_down", message: "bye", fatal: true };

test("a session that ends at once is come back to ever later, one that went on for 5 s at once", t => {
  const rig = streaming(t);
  const waits = [4999, 4999, 4999, 5000, 5000].map(streamedMs => {
    rig.nowMs += streamedMs;
    rig.says(AWAY);
    const { waitsMs } = rig;
    rig.due();
    rig.open();
    rig.says({ ...ACK, resumed: true });
    rig.says(SET);
    assert.ok(rig.client.isReady);
    return waitsMs;
  });
  assert.deepEqual(waits, [100, 200, 400, 100, 100]);
});

/** One heartbeat a second for so long, each answered after so many ms; the seconds after which a frame could be sent. */
function readyAt(rig, secs, answeredAfterMs) {
  const ready = [], waiting = [];
  const answer = () => {
    while (waiting.length && waiting[0].dueMs <= rig.nowMs) {
      rig.says({ type: "heartbeat_ack", timestamp: waiting.shift().timestamp, server_time: 0, last_recorded_frame_id: -1, target_fps: 10 });
    }
  };
  for (let sec = 0; sec < secs; sec++) {
    rig.beat();
    waiting.push({ dueMs: rig.nowMs + answeredAfterMs, timestamp: rig.sent.at(-1).timestamp });
    answer();
    rig.nowMs += 1000;
    rig.wallMs += 1000;
    answer();
    if (rig.client.isReady) ready.push(sec);
  }
  return ready;
}

test("a long way that is steady is no backlog, and one that grows longer is", t => {
  const rig = streaming(t);
  assert.deepEqual(readyAt(rig, 3, 0), [0, 1, 2]);
  assert.deepEqual(readyAt(rig, 7, 3000), [0], "this connection can be quicker");
  rig.says(AWAY);
  rig.due();
  rig.open();
  rig.says({ ...ACK, resumed: true });
  rig.says(SET);
  assert.deepEqual(readyAt(rig, 7, 3000), [0, 2, 3, 4, 5, 6], "what is usual is known with the first answer");
});

const TAKEN = {
  "is told so": rig => rig.says({ ...AWAY, code: "session_taken_over" }),
  "learns it on its way back": rig => {
    rig.says(AWAY);
    rig.due();
    rig.open();
    rig.says({ ...ACK, resumed: true, last_frame_id: 7 });
  },
};
for (const [how, take] of Object.entries(TAKEN)) {
  test(`who lost a session to another client and ${how} begins a new one`, t => {
    const rig = streaming(t);
    take(rig);
    assert.deepEqual([rig.client.state, rig.client.sessionId], ["refused", null]);
    rig.client.restart({});
    rig.open();
    assert.equal(rig.sent.at(-1).resume_session_id ?? null, null);
    rig.says({ ...ACK, session_id: "t" });
    rig.says(SET);
    assert.ok(rig.client.isReady);
  });
}

test("an answered heartbeat answers for those before it, which were refused", t => {
  const rig = streaming(t);
  rig.beat();
  rig.wallMs -= HOUR_MS;
  rig.beat();
  rig.nowMs += 1001;
  const { timestamp } = rig.sent.at(-1);
  rig.says({ type: "heartbeat_ack", timestamp, server_time: 0, last_recorded_frame_id: -1, target_fps: 10 });
  assert.ok(rig.client.isReady);
});
