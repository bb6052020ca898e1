// Talks to the gateway: sessions over HTTP, views over a socket. The token lives as long as this tab.

const TIMEOUT_MS = 4000;

export class Unauthorized extends Error {}

/** A socket's close without a reason that the server told. */
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
    this.socket.onclose = () => on.end(
      this.why?.code === "unauthorized" ? new Unauthorized() : this.why ? new Error(this.why.message) : new Gone());
  }

  close() {
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
  }
}
