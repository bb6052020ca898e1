// The JavaScript of the protocol on the bytes that Python and C# are tested on; node --test runs it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import * as protocol from "../../../services/gateway/src/gateway/page/game/protocol.js";

const golden = new URL("../../golden/", import.meta.url);
const messages = JSON.parse(readFileSync(new URL("messages.json", golden)));
const bytesOf = ({ file }) => new Uint8Array(readFileSync(new URL(file, golden)));
const bufferOf = bytes => bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
const ofType = type => messages.filter(message => message.type === type);

for (const message of ofType("frame_data")) {
  test(`${message.file} is written`, () => {
    const { says } = message;
    const written = protocol.encodeFrame(protocol.BINARY, {
      frameId: says.frame_id,
      set: { setId: says.coordinate_set_id },
      timestampSecs: says.timestamp,
      width: says.resolution[0],
      height: says.resolution[1],
      state: Float32Array.from(says.state_vector),
      values: Uint8Array.from(says.values),
    });
    assert.deepEqual(written, bytesOf(message));
  });
}

for (const message of ofType("keyframe")) {
  test(`${message.file} is written`, () => {
    const png = new Uint8Array(Buffer.from(message.says.data, "base64"));
    assert.deepEqual(protocol.encodeKeyframe(protocol.BINARY, message.says.frame_id, png), bytesOf(message));
  });
}

for (const message of ofType("uv_coordinates")) {
  test(`${message.file} is read`, () => {
    const { says } = message;
    const read = protocol.decode(bufferOf(bytesOf(message)));
    assert.deepEqual(read, {
      type: "uv_coordinates",
      frameId: says.frame_id,
      setId: says.coordinate_set_id,
      u: Float32Array.from(says.coords, ([u]) => u),
      v: Float32Array.from(says.coords, ([, v]) => v),
      sidePx: Uint8Array.from(says.coords, ([, , side]) => side),
      footprints: says.footprints,
      importance: says.importance_map && {
        width: says.importance_map[0],
        height: says.importance_map[1],
        data: new Uint8Array(Buffer.from(says.importance_map[2], "base64")),
      },
      modelVersion: says.model_version,
      predictedPsnrDb: says.predicted_psnr,
    });
  });

  test(`${message.file} cut short, prolonged or changed is refused or read, and nothing else`, () => {
    const bytes = bytesOf(message);
    const refusesOrReads = changed => {
      try {
        return protocol.decode(bufferOf(changed)).type === "uv_coordinates";
      } catch (error) {
        assert.ok(error instanceof protocol.ProtocolError, String(error));
        return false;
      }
    };
    for (let length = 0; length < bytes.length; length++) assert.equal(refusesOrReads(bytes.slice(0, length)), false);
    assert.equal(refusesOrReads(Uint8Array.from([...bytes, 0])), false);
    for (let at = 0; at < bytes.length; at++) {
      for (const value of [0, 1, 127, 128, 255]) refusesOrReads(bytes.with?.(at, value) ?? withByte(bytes, at, value));
    }
  });
}

function withByte(bytes, at, value) {
  const changed = bytes.slice();
  changed[at] = value;
  return changed;
}

const ACK = {
  type: "session_start_ack", session_id: "s", checkpoint_loaded: true, sample_count: 5, max_state_dim: 4,
  target_fps: 10, model_version: "v", coordinate_set_id: 1, keyframe_interval: 5, resumed: false, last_frame_id: -1,
};
const SET = {
  type: "uv_coordinates", frame_id: 3, coords: [[0.5, 0.25, 4]], importance_map: null, coordinate_set_id: 8,
  model_version: "v", predicted_psnr: null,
};

test("an answer with fields of a newer server is read", () => {
  assert.equal(protocol.decode(JSON.stringify({ ...ACK, later: 1 })).session_id, "s");
});

for (const [name, text] of Object.entries({
  "no JSON": "{",
  "null": "null",
  "an unknown type": '{"type":"constructor"}',
  "a session id that is a path": JSON.stringify({ ...ACK, session_id: "../s" }),
  "a rate of nought": JSON.stringify({ ...ACK, target_fps: 0 }),
  "no rate": JSON.stringify({ ...ACK, target_fps: undefined }),
  "a place outside": JSON.stringify({ ...SET, coords: [[0.5, 1.5]] }),
  "a place of one number": JSON.stringify({ ...SET, coords: [[0.5]] }),
  "a square of three pixels": JSON.stringify({ ...SET, coords: [[0.5, 0.5, 3]] }),
  "no places": JSON.stringify({ ...SET, coords: [] }),
  "a map of another size": JSON.stringify({ ...SET, importance_map: { width: 2, height: 2, data: "AAAA" } }),
  "a map that is no base64": JSON.stringify({ ...SET, importance_map: { width: 1, height: 1, data: "%" } }),
  "a negative pause": '{"type":"error","code":"overloaded","message":"","retry_after_secs":-1}',
})) {
  test(`${name} is refused`, () => assert.throws(() => protocol.decode(text), protocol.ProtocolError));
}

test("points have three numbers in JSON and squares four", () => {
  const set = { setId: 1, u: [0.5], v: [1 / 3], sidePx: [4] };
  const frame = { frameId: 1, timestampSecs: 2, width: 8, height: 8, state: [], values: Uint8Array.of(255) };
  const pixels = footprints =>
    JSON.parse(protocol.encodeFrame(protocol.JSON_FORM, { ...frame, set: { ...set, footprints } })).pixels;
  assert.deepEqual(pixels(false), [[0.5, 0.333333, 1]]);
  assert.deepEqual(pixels(true), [[0.5, 0.333333, 1, 4]]);
});
