// Talks to the gateway: sessions over HTTP, views over a socket. The token lives as long as this tab.

const TIMEOUT_MS = 4000;

export class Unauthorized extends Error {}

/** The gateway is there and says why it shows nothing, and for how long it is not to be asked again. */
export class Refused extends Error {
  constructor(message, retryAfterSecs = 0) {
    super(message);
    this.retryAfterSecs = retryAfterSecs;
  }
}

/** A socket that ended without a reason. */
export class Gone extends Error {}

export const token = {
  get: () => sessionStorage.getItem("token"),
  set: value => sessionStorage.setItem("token", value),
};

export async function getJson(path) {
  const headers = token.get() ? { Authorization: `Bearer ${token.get()}` } : {};
  const reply = await fetch(path, { headers, signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (reply.status === 401) throw new Unauthorized();
  if (!reply.ok) throw new Error(`${path}: ${reply.status}`);
  return reply.json();
}

/** Looks at one session until it is closed. */
export class Look {
  /** on: {view(buffer), status(message), end(error)}; `end` is called once, unless we close it. */
  constructor(sessionId, on) {
    this.sessionId = sessionId;
    const address = new URL(`/ws/view/${encodeURIComponent(sessionId)}`, location.href);
    address.protocol = address.protocol.replace("http", "ws");
    this.socket = new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.socket.send(JSON.stringify({ type: "view_start", ...(token.get() && { auth_token: token.get() }) }));
    this.socket.onmessage = ({ data }) => {
      if (data instanceof ArrayBuffer) return on.view(data);
      const message = JSON.parse(data);
      if (message.type === "view_status") on.status(message);
      if (message.type === "error") this.why = message;
    };
    this.socket.onclose = () => on.end(this._reason());
  }

  _reason() {
    if (!this.why) return new Gone();
    const { code, message, retry_after_secs } = this.why;
    return code === "unauthorized" ? new Unauthorized() : new Refused(message, retry_after_secs ?? 0);
  }

  close() {
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
  }
}
