// The browser's WebSocket, polled from C#: WebGLTransport. Messages wait here until they are taken. Written in ECMAScript 5,
// which the Emscripten of Unity 2021.3 takes.
mergeInto(LibraryManager.library, {
  $SgapsSockets: {
    list: [],
    MAX_BYTES: 4 * 1024 * 1024,
    MAX_WAITING_BYTES: 8 * 1024 * 1024,
    CONNECTING: 0,
    OPEN: 1,
    CLOSED: 2,

    returned: function (text) {
      var size = lengthBytesUTF8(text) + 1;
      var pointer = _malloc(size);
      stringToUTF8(text, pointer, size);
      return pointer;
    },

    end: function (entry, reason) {
      if (entry.state === SgapsSockets.CLOSED) return;
      entry.state = SgapsSockets.CLOSED;
      entry.reason = reason;
    },

    hangUp: function (entry, reason) {
      SgapsSockets.end(entry, reason);
      entry.socket.close();
    },

    // Of memory, as ClientWebSocketTransport counts it: a thousand short messages take more than they say.
    sizeOf: function (message) { return Math.max(4096, message.bytes.length); },

    listen: function (entry) {
      entry.socket.binaryType = "arraybuffer";
      entry.socket.onopen = function () { entry.state = SgapsSockets.OPEN; };
      // A browser tells a page nothing about why a connection failed.
      entry.socket.onerror = function () { SgapsSockets.end(entry, "the connection failed; the browser's console says more"); };
      entry.socket.onclose = function (event) {
        SgapsSockets.end(entry, "the server closed the connection: " + event.code + " " + event.reason);
      };
      entry.socket.onmessage = function (event) {
        var isText = typeof event.data === "string";
        var bytes = isText ? new TextEncoder().encode(event.data) : new Uint8Array(event.data);
        var message = { bytes: bytes, isText: isText };
        entry.waitingBytes += SgapsSockets.sizeOf(message);
        if (bytes.length > SgapsSockets.MAX_BYTES) {
          SgapsSockets.hangUp(entry, "the server sent a message of " + bytes.length + " bytes");
        } else if (entry.waitingBytes > SgapsSockets.MAX_WAITING_BYTES) {
          SgapsSockets.hangUp(entry, "the server sends more than the game reads: more than " + SgapsSockets.MAX_WAITING_BYTES + " bytes wait");
        } else {
          entry.incoming.push(message);
        }
      };
    },
  },

  SgapsSocketOpen: function (endpoint, subprotocols) {
    var entry = { state: SgapsSockets.CONNECTING, reason: "", incoming: [], waitingBytes: 0, socket: null };
    try {
      entry.socket = new WebSocket(UTF8ToString(endpoint), UTF8ToString(subprotocols).split(","));
      SgapsSockets.listen(entry);
    } catch (error) {
      // For example ws:// from a page that came by https://.
      SgapsSockets.end(entry, String(error));
    }
    return SgapsSockets.list.push(entry) - 1;
  },

  SgapsSocketState: function (socket) { return SgapsSockets.list[socket].state; },

  SgapsSocketProtocol: function (socket) { return SgapsSockets.returned(SgapsSockets.list[socket].socket.protocol); },

  SgapsSocketCloseReason: function (socket) { return SgapsSockets.returned(SgapsSockets.list[socket].reason); },

  SgapsSocketBacklog: function (socket) { return SgapsSockets.list[socket].socket.bufferedAmount; },

  SgapsSocketSend: function (socket, pointer, count, isText) {
    // A copy: the memory is C#'s and will change.
    var bytes = HEAPU8.slice(pointer, pointer + count);
    SgapsSockets.list[socket].socket.send(isText ? new TextDecoder().decode(bytes) : bytes);
  },

  SgapsSocketNextBytes: function (socket) {
    var incoming = SgapsSockets.list[socket].incoming;
    return incoming.length > 0 ? incoming[0].bytes.length : -1;
  },

  SgapsSocketTake: function (socket, pointer) {
    var entry = SgapsSockets.list[socket];
    var message = entry.incoming.shift();
    entry.waitingBytes -= SgapsSockets.sizeOf(message);
    HEAPU8.set(message.bytes, pointer);
    return message.isText ? 1 : 0;
  },

  SgapsSocketClose: function (socket) {
    var entry = SgapsSockets.list[socket];
    SgapsSockets.end(entry, "closed by the game");
    if (entry.socket === null) return;
    // The list keeps the entry for good; with it goes neither the socket nor what it still receives.
    entry.socket.onmessage = null;
    entry.socket.close();
    entry.socket = null;
    entry.incoming = [];
  },

  SgapsSocketOpen__deps: ["$SgapsSockets"],
  SgapsSocketState__deps: ["$SgapsSockets"],
  SgapsSocketProtocol__deps: ["$SgapsSockets"],
  SgapsSocketCloseReason__deps: ["$SgapsSockets"],
  SgapsSocketBacklog__deps: ["$SgapsSockets"],
  SgapsSocketSend__deps: ["$SgapsSockets"],
  SgapsSocketNextBytes__deps: ["$SgapsSockets"],
  SgapsSocketTake__deps: ["$SgapsSockets"],
  SgapsSocketClose__deps: ["$SgapsSockets"],
});
