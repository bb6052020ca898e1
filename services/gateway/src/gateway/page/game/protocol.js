// The WebSocket protocol in both of its forms, byte by byte as in docs/protocol.md: what is to be sent in,
// text or bytes out; text or bytes in, messages out. Knows no sockets and no page. Ids are numbers: the
// protocol keeps them below 2^53.

export const BINARY = "sgaps.v1.binary";
export const JSON_FORM = "sgaps.v1.json";

const MAGIC = [0x53, 0x47], VERSION = 1;
const FRAME_DATA = 1, KEYFRAME = 2, UV_COORDINATES = 3;
const PNG = 1;
const HAS_FOOTPRINTS = 1, HAS_PSNR = 2;
const UV_STEPS = 65535, VALUE_STEPS = 255, DECIMALS = 1e6;
const MAX_LEVEL = 6, MAX_SAMPLES = 65535, MAX_FRAME_ID = 2 ** 52 - 2, MAX_SET_ID = Number.MAX_SAFE_INTEGER;
const MAX_MAP_SIDE = 8192;
const FRAME_BYTES = 36, KEYFRAME_BYTES = 20, COORDINATES_BYTES = 32;

/** What the other side said is no message, or it refused ours. */
export class ProtocolError extends Error {
  constructor(code, message, { retryAfterSecs = null } = {}) {
    super(message);
    this.code = code;
    this.retryAfterSecs = retryAfterSecs;
  }
}

const check = (holds, otherwise) => {
  if (!holds) throw new ProtocolError("bad_message", otherwise);
};

// ---- what a client sends -------------------------------------------------------------------------

/** session_start. `resume` is a session's id or null; `sampling` {sample_count, placement} or null. */
export function encodeStart({ checkpointKey, width, height, maxStateDim, client, token, resume, sampling }) {
  return JSON.stringify({
    type: "session_start",
    checkpoint_key: checkpointKey,
    resolution: { width, height },
    max_state_dim: maxStateDim,
    client,
    ...(token && { auth_token: token }),
    ...(resume && { resume_session_id: resume }),
    ...(sampling && { sampling }),
  });
}

/** heartbeat. */
export const encodeHeartbeat = timestampSecs => JSON.stringify({ type: "heartbeat", timestamp: timestampSecs });

/** frame_data of a frame {frameId, set, timestampSecs, width, height, state: Float32Array, values: Uint8Array}. */
export const encodeFrame = (form, frame) => (form === BINARY ? binaryFrame(frame) : jsonFrame(frame));

/** keyframe: `png` is a Uint8Array. */
export const encodeKeyframe = (form, frameId, png) =>
  form === BINARY ? binaryKeyframe(frameId, png) : jsonKeyframe(frameId, png);

function binaryFrame({ frameId, set, timestampSecs, width, height, state, values }) {
  const bytes = opened(FRAME_DATA, FRAME_BYTES + 4 * state.length + values.length);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(4, BigInt(frameId), true);
  view.setBigUint64(12, BigInt(set.setId), true);
  view.setFloat64(20, timestampSecs, true);
  [width, height, state.length, values.length].forEach((count, n) => view.setUint16(28 + 2 * n, count, true));
  state.forEach((value, n) => view.setFloat32(FRAME_BYTES + 4 * n, value, true));
  bytes.set(values, FRAME_BYTES + 4 * state.length);
  return bytes;
}

function binaryKeyframe(frameId, png) {
  const bytes = opened(KEYFRAME, KEYFRAME_BYTES + png.length);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(4, BigInt(frameId), true);
  view.setUint8(12, PNG);
  view.setUint32(16, png.length, true);
  bytes.set(png, KEYFRAME_BYTES);
  return bytes;
}

function opened(kind, length) {
  const bytes = new Uint8Array(length);
  bytes.set([...MAGIC, VERSION, kind]);
  return bytes;
}

function jsonFrame({ frameId, set, timestampSecs, width, height, state, values }) {
  const pixels = Array.from(values, (value, n) => {
    const point = [set.u[n], set.v[n], value / VALUE_STEPS].map(rounded);
    return set.footprints ? [...point, set.sidePx[n]] : point;
  });
  return JSON.stringify({
    type: "frame_data",
    frame_id: frameId,
    pixels,
    state_vector: Array.from(state),
    resolution: { width, height },
    timestamp: timestampSecs,
    coordinate_set_id: set.setId,
  });
}

const rounded = number => Math.round(number * DECIMALS) / DECIMALS;

function jsonKeyframe(frameId, png) {
  let text = "";
  for (const byte of png) text += String.fromCharCode(byte);
  return JSON.stringify({ type: "keyframe", frame_id: frameId, encoding: "png", data: btoa(text) });
}

// ---- what a server sends -------------------------------------------------------------------------

/**
 * A message of the server: a string, or an ArrayBuffer in the binary form. Coordinates come as
 * {type: "uv_coordinates", frameId, setId, u, v: Float32Array in 0..1, sidePx: Uint8Array, footprints,
 * importance: {width, height, data: Uint8Array} | null, modelVersion, predictedPsnrDb | null};
 * all else as the JSON has it. Throws ProtocolError.
 */
export const decode = raw => (typeof raw === "string" ? decodeText(raw) : decodeCoordinates(new Uint8Array(raw)));

function decodeText(text) {
  const message = parsed(text);
  const isKnown = typeof message === "object" && message !== null && Object.hasOwn(CHECKS, message.type);
  check(isKnown, `the server sends no ${message?.type}`);
  for (const [field, holds] of Object.entries(CHECKS[message.type])) {
    check(holds(message[field]), `${message.type}: ${field} is missing or out of range`);
  }
  return message.type === "uv_coordinates" ? coordinatesOf(message) : message;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new ProtocolError("bad_json", "the server sent no JSON");
  }
}

const isText = value => typeof value === "string";
const isFlag = value => typeof value === "boolean";
const isIn = (low, high) => value => Number.isInteger(value) && value >= low && value <= high;
const isRate = value => typeof value === "number" && value >= 1e-3 && value <= 1e4;
const isAbsentOr = holds => value => value === undefined || value === null || holds(value);
const isSide = isIn(1, MAX_MAP_SIDE);
const isMap = map => isSide(map.width) && isSide(map.height) && isText(map.data);

const CHECKS = {
  session_start_ack: {
    session_id: value => isText(value) && /^[A-Za-z0-9_-]{1,64}$/.test(value),
    sample_count: isIn(0, MAX_SAMPLES),
    max_state_dim: isIn(0, 4096),
    target_fps: isRate,
    model_version: isText,
    keyframe_interval: isIn(0, MAX_SET_ID),
    resumed: isFlag,
    last_frame_id: isIn(-1, MAX_FRAME_ID),
  },
  uv_coordinates: {
    frame_id: isIn(-1, MAX_FRAME_ID),
    coordinate_set_id: isIn(0, MAX_SET_ID),
    coords: value => Array.isArray(value) && value.length > 0 && value.length <= MAX_SAMPLES,
    importance_map: isAbsentOr(isMap),
    model_version: isText,
    predicted_psnr: isAbsentOr(Number.isFinite),
  },
  heartbeat_ack: { timestamp: Number.isFinite, target_fps: isRate, last_recorded_frame_id: isIn(-1, MAX_FRAME_ID) },
  error: {
    code: isText,
    message: isText,
    fatal: isAbsentOr(isFlag),
    retry_after_secs: isAbsentOr(value => Number.isFinite(value) && value >= 0),
  },
};

function coordinatesOf(message) {
  const { coords } = message;
  check(coords.every(place => Array.isArray(place) && isPlace(place)), "coordinates outside the picture");
  return {
    type: message.type,
    frameId: message.frame_id,
    setId: message.coordinate_set_id,
    u: Float32Array.from(coords, ([u]) => u),
    v: Float32Array.from(coords, ([, v]) => v),
    sidePx: Uint8Array.from(coords, ([, , side = 1]) => side),
    footprints: coords.some(place => place.length > 2),
    importance: message.importance_map ? importanceOf(message.importance_map) : null,
    modelVersion: message.model_version,
    predictedPsnrDb: message.predicted_psnr ?? null,
  };
}

const isUnit = value => typeof value === "number" && value >= 0 && value <= 1;
const isPlace = ([u, v, side = 1]) => isUnit(u) && isUnit(v) && isIn(1, 64)(side) && (side & (side - 1)) === 0;

function importanceOf({ width, height, data }) {
  const bytes = fromBase64(data);
  check(bytes.length === width * height, `importance_map: ${bytes.length} bytes are not ${width}x${height}`);
  return { width, height, data: bytes };
}

function fromBase64(text) {
  try {
    return Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  } catch {
    throw new ProtocolError("bad_message", "importance_map is not base64");
  }
}

function decodeCoordinates(bytes) {
  const head = decodedHead(bytes);
  const { frameId, setId, psnrDb, count, width, height, flags, versionBytes } = head;
  const levelBytes = flags & HAS_FOOTPRINTS ? count : 0;
  const [places, levels, importance, version] = cut(bytes, [4 * count, levelBytes, width * height, versionBytes]);
  check(levels.every(level => level <= MAX_LEVEL), "no such footprint");
  const placesView = new DataView(places.buffer, places.byteOffset, places.length);
  const place = axis => Float32Array.from({ length: count }, (_, n) => placesView.getUint16(4 * n + 2 * axis, true) / UV_STEPS);
  return {
    type: "uv_coordinates",
    frameId,
    setId,
    u: place(0),
    v: place(1),
    sidePx: levelBytes ? levels.map(level => 1 << level) : new Uint8Array(count).fill(1),
    footprints: levelBytes > 0,
    importance: width ? { width, height, data: importance } : null,
    modelVersion: textOf(version),
    predictedPsnrDb: flags & HAS_PSNR ? psnrDb : null,
  };
}

function decodedHead(bytes) {
  const isOurs = MAGIC.every((byte, n) => bytes[n] === byte) && bytes[2] === VERSION && bytes[3] === UV_COORDINATES;
  check(isOurs, "the server sent bytes that are no uv_coordinates");
  check(bytes.length >= COORDINATES_BYTES, `${bytes.length} bytes, at least ${COORDINATES_BYTES} are needed`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const head = {
    frameId: Number(view.getBigInt64(4, true)),
    setId: Number(view.getBigUint64(12, true)),
    psnrDb: view.getFloat32(20, true),
    count: view.getUint16(24, true),
    width: view.getUint16(26, true),
    height: view.getUint16(28, true),
    flags: view.getUint8(30),
    versionBytes: view.getUint8(31),
  };
  check(isIn(-1, MAX_FRAME_ID)(head.frameId) && isIn(0, MAX_SET_ID)(head.setId), "no such frame or set id");
  check((head.flags & ~(HAS_FOOTPRINTS | HAS_PSNR)) === 0, `unknown flags ${head.flags}`);
  check(Number.isFinite(head.psnrDb), "predicted PSNR is not finite");
  check(head.flags & HAS_PSNR || Object.is(head.psnrDb, 0), "a predicted PSNR without its flag");
  check(head.width > 0 === head.height > 0, "an importance map without one of its sides");
  return head;
}

function cut(bytes, lengths) {
  const total = lengths.reduce((sum, length) => sum + length, COORDINATES_BYTES);
  check(bytes.length === total, `${bytes.length} bytes, not ${total}`);
  let end = COORDINATES_BYTES;
  return lengths.map(length => bytes.subarray(end, (end += length)));
}

function textOf(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new ProtocolError("bad_message", "model version is no text");
  }
}
