// Runs SgapsWebSocket.jslib with Node's own WebSocket, a browser's but for the window: one frame to a real gateway and its answer.
// node --experimental-websocket gateway.js JSLIB URL; prints what came in JSON.
"use strict";
const { loaded, memory, put, text } = require("./emscripten.js");

const OPEN = 1;
const CLOSED = 2;
const PATIENCE_MS = 20000;
const AT = 32 * 1024;
const [path, url] = process.argv.slice(2);
const library = loaded(path, WebSocket);
const socket = library.SgapsSocketOpen(put(url), put("sgaps.v1.binary,sgaps.v1.json"));

function send(bytes, isText) {
  memory.set(bytes, AT);
  library.SgapsSocketSend(socket, AT, bytes.length, isText);
}

async function until(isSo) {
  for (const began = Date.now(); !isSo(); await new Promise((resolve) => setTimeout(resolve, 5))) {
    if (Date.now() - began > PATIENCE_MS) throw new Error("nothing came");
    if (library.SgapsSocketState(socket) === CLOSED) throw new Error(text(library.SgapsSocketCloseReason(socket)));
  }
}

async function message() {
  await until(() => library.SgapsSocketNextBytes(socket) >= 0);
  const count = library.SgapsSocketNextBytes(socket);
  const isText = library.SgapsSocketTake(socket, AT);
  const bytes = Buffer.from(memory.slice(AT, AT + count));
  return isText ? JSON.parse(bytes.toString()) : bytes;
}

/** A binary frame_data of this id: as many zeros as the set has places. */
function frame(frameId, set) {
  const count = set.readUInt16LE(24);
  const bytes = Buffer.alloc(36 + count);
  bytes.set([0x53, 0x47, 1, 1]);
  bytes.writeBigUInt64LE(BigInt(frameId), 4);
  set.copy(bytes, 12, 12, 20);
  bytes.writeDoubleLE(Date.now() / 1000, 20);
  bytes.writeUInt16LE(64, 28);
  bytes.writeUInt16LE(48, 30);
  bytes.writeUInt16LE(count, 34);
  return bytes;
}

async function play() {
  await until(() => library.SgapsSocketState(socket) === OPEN);
  const client = { name: "jslib", version: "0", features: ["footprint"] };
  const start = { type: "session_start", checkpoint_key: "unity", resolution: [64, 48], max_state_dim: 0, client };
  send(Buffer.from(JSON.stringify(start)), 1);
  const ack = await message();
  const first = await message();
  send(frame(0, first), 0);
  const answer = await message();
  const subprotocol = text(library.SgapsSocketProtocol(socket));
  library.SgapsSocketClose(socket);
  return { subprotocol, acknowledged: ack.type, places: first.readUInt16LE(24), answered: Number(answer.readBigInt64LE(4)) };
}

play().then((result) => console.log(JSON.stringify(result)), (error) => { console.log(JSON.stringify({ error: error.message })); });
