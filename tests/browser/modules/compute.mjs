// Reads a request as JSON and prints what the game's modules make of it: tests compare it with numpy's.
import { readFileSync } from "node:fs";

import * as protocol from "../../../services/gateway/src/gateway/page/game/protocol.js";
import { interpolated } from "../../../services/gateway/src/gateway/page/game/prior.js";
import { meansOf, rectanglesOf } from "../../../services/gateway/src/gateway/page/game/squares.js";

const request = JSON.parse(readFileSync(0, "utf8"));
const { width, height, form } = request;
const raw = Buffer.from(request.coordinates, "base64");
const isBinary = form === protocol.BINARY;
const set = protocol.decode(isBinary ? new Uint8Array(raw).buffer : raw.toString());
const luma = new Uint8Array(Buffer.from(request.luma, "base64"));
const values = meansOf(luma, width, rectanglesOf(set, width, height));
const state = Float32Array.from(request.state);
const frame = protocol.encodeFrame(form, { frameId: 7, set, timestampSecs: 1.25, width, height, state, values });
const keyframe = protocol.encodeKeyframe(form, 7, luma);
process.stdout.write(JSON.stringify({
  values: Buffer.from(values).toString("base64"),
  prior: Buffer.from(interpolated(set, values, width, height)).toString("base64"),
  frame: Buffer.from(frame).toString("base64"),
  keyframe: Buffer.from(keyframe).toString("base64"),
}));
