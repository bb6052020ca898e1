// Runs SgapsWebSocket.jslib with a stand-in for the browser's WebSocket.
"use strict";
const assert = require("assert");
const { loaded, memory, put, text } = require("./emscripten.js");

let last = null;

class FakeWebSocket {
  constructor(url, protocols) {
    if (url === "ws://forbidden") throw new Error("insecure");
    Object.assign(this, { url, protocols, protocol: protocols[0], sent: [], bufferedAmount: 7, isClosed: false });
    last = this;
  }
  send(data) { this.sent.push(data); }
  close() { this.isClosed = true; }
}

const library = loaded(process.argv[2], FakeWebSocket);
for (const name of Object.keys(library).filter((name) => /^Sgaps\w+(?<!__deps)$/.test(name))) {
  assert.deepStrictEqual([...library[name + "__deps"]], ["$SgapsSockets"], name);
}

const socket = library.SgapsSocketOpen(put("ws://h/ws/stream"), put("sgaps.v1.binary,sgaps.v1.json"));
assert.deepStrictEqual([last.url, [...last.protocols]], ["ws://h/ws/stream", ["sgaps.v1.binary", "sgaps.v1.json"]]);
assert.strictEqual(last.binaryType, "arraybuffer");
assert.strictEqual(library.SgapsSocketState(socket), 0);
last.onopen();
assert.strictEqual(library.SgapsSocketState(socket), 1);
assert.strictEqual(text(library.SgapsSocketProtocol(socket)), "sgaps.v1.binary");
assert.strictEqual(library.SgapsSocketBacklog(socket), 7);

memory.set([1, 2, 3], 2000);
library.SgapsSocketSend(socket, 2000, 3, 0);
memory.set(Buffer.from("{é}"), 2000);
library.SgapsSocketSend(socket, 2000, 4, 1);
assert.deepStrictEqual([[...last.sent[0]], last.sent[1]], [[1, 2, 3], "{é}"]);

assert.strictEqual(library.SgapsSocketNextBytes(socket), -1);
last.onmessage({ data: "é" });
last.onmessage({ data: new Uint8Array([9, 8, 7]).buffer });
last.onclose({ code: 1001, reason: "shutting_down" });
assert.strictEqual(library.SgapsSocketState(socket), 2);
assert.strictEqual(text(library.SgapsSocketCloseReason(socket)), "the server closed the connection: 1001 shutting_down");
assert.strictEqual(library.SgapsSocketNextBytes(socket), 2);
assert.strictEqual(library.SgapsSocketTake(socket, 3000), 1);
assert.strictEqual(library.SgapsSocketNextBytes(socket), 3);
assert.strictEqual(library.SgapsSocketTake(socket, 3000), 0);
assert.deepStrictEqual([...memory.slice(3000, 3003)], [9, 8, 7]);

const big = library.SgapsSocketOpen(put("ws://h/"), put("a"));
last.onopen();
last.onmessage({ data: new ArrayBuffer(5 * 1024 * 1024) });
assert.deepStrictEqual([library.SgapsSocketState(big), last.isClosed, library.SgapsSocketNextBytes(big)], [2, true, -1]);

const flooded = library.SgapsSocketOpen(put("ws://h/"), put("a"));
last.onopen();
for (let round = 0; round < 2; round++) {
  for (let i = 0; i < 2048; i++) last.onmessage({ data: "x" });
  assert.strictEqual(library.SgapsSocketState(flooded), 1);
  if (round === 0) for (let i = 0; i < 2048; i++) library.SgapsSocketTake(flooded, 3000); // what is read makes room
}
last.onmessage({ data: "x" });
assert.deepStrictEqual([library.SgapsSocketState(flooded), last.isClosed], [2, true]);
assert.strictEqual(text(library.SgapsSocketCloseReason(flooded)), "the server sends more than the game reads: more than 8388608 bytes wait");
assert.strictEqual(library.$SgapsSockets.list[flooded].incoming.length, 2048);

const full = library.SgapsSocketOpen(put("ws://h/"), put("a"));
last.onopen();
for (let i = 0; i < 2; i++) last.onmessage({ data: new ArrayBuffer(4 * 1024 * 1024) });
assert.strictEqual(library.SgapsSocketState(full), 1);
last.onmessage({ data: "x" });
assert.strictEqual(library.SgapsSocketState(full), 2);

const closed = library.SgapsSocketOpen(put("ws://h/"), put("a"));
last.onmessage({ data: "a message that nobody takes" });
library.SgapsSocketClose(closed);
assert.deepStrictEqual([library.SgapsSocketState(closed), last.isClosed, last.onmessage], [2, true, null]);
assert.strictEqual(library.SgapsSocketNextBytes(closed), -1);
assert.strictEqual(library.$SgapsSockets.list[closed].socket, null);

const forbidden = library.SgapsSocketOpen(put("ws://forbidden"), put("a"));
assert.strictEqual(library.SgapsSocketState(forbidden), 2);
assert.strictEqual(text(library.SgapsSocketCloseReason(forbidden)), "Error: insecure");
library.SgapsSocketClose(forbidden);
console.log("all as expected");
