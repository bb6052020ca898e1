// What SgapsWebSocket.jslib finds around it in a player: Emscripten's memory and its names, by hand.
"use strict";
const fs = require("fs");
const vm = require("vm");

const memory = new Uint8Array(64 * 1024);
let used = 1;

/** The functions of a .jslib in a page whose WebSocket is this class. */
exports.loaded = function (path, WebSocket) {
  const library = {};
  const page = {
    LibraryManager: { library }, mergeInto: Object.assign, WebSocket, TextEncoder, TextDecoder, Uint8Array, String,
    HEAPU8: memory, UTF8ToString: exports.text, lengthBytesUTF8: (value) => Buffer.byteLength(value),
    stringToUTF8: (value, pointer) => { Buffer.from(value + "\0").copy(memory, pointer); },
    _malloc: (size) => { used += size; return used - size; },
  };
  vm.createContext(page);
  vm.runInContext(fs.readFileSync(path, "utf8"), page);
  page.SgapsSockets = library.$SgapsSockets;
  return library;
};

exports.memory = memory;

exports.text = function (pointer) {
  return Buffer.from(memory.slice(pointer, memory.indexOf(0, pointer))).toString();
};

/** A text put into memory: its address. */
exports.put = function (value) {
  const pointer = used;
  used += Buffer.from(value + "\0").copy(memory, used);
  return pointer;
};
