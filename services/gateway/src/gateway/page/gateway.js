// Talks to the gateway: sessions over HTTP, views over a socket. The token lives as long as this tab.

const TIMEOUT_MS = 4000;
/**
 * The gateway says every second how a session is, but behind the view that is on its way, and it waits 20 s for who
 * reads slowly (`server.client_timeout_secs`): who leaves earlier gets the same view again, and never sees one.
 */
const SILENCE_MS = 25_000;

export class Unauthorized extends Error {}

/** The gateway is there and says why it shows nothing, and for how long it is not to be asked again. */
export class Refused extends Error {
  constructor(message, retryAfterSecs = 0) {
    super(message);
    this.retryAfterSecs = retryAfterSecs;
  }
}

/** Told of the second end in a row without any message: the gateway itself would have said why. */
const UNHEARD = "the page reaches it, but nothing comes over its WebSocket to /ws/view. Does a proxy on the way let WebSockets through?";

/** A socket that ended without a reason, or on which nothing comes any more. */
export class Gone extends Error {}

/** The tab's own storage; of this page alone where the browser keeps nothing for sites. */
const kept = (() => {
  try {
    return sessionStorage;
  } catch {
    const values = new Map();
    return { getItem: name => values.get(name) ?? null, setItem: (name, value) => values.set(name, value) };
  }
})();

export const token = {
  get: () => kept.getItem("token"),
  set: value => kept.setItem("token", value),
};

/** Keeps the token of this form when it is sent off, and calls `then`. */
export function onToken(form, then) {
  const field = form.querySelector("input");
  form.addEventListener("submit", event => {
    event.preventDefault();
    token.set(field.value.trim());
    field.value = "";
    then();
  });
}

/** Throws Unauthorized for a token that no header can hold, and so no gateway has. */
function authorization() {
  try {
    return new Headers(token.get() ? { Authorization: `Bearer ${token.get()}` } : {});
  } catch {
    throw new Unauthorized();
  }
}

export async function getJson(path) {
  const reply = await fetch(path, { headers: authorization(), signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (reply.status === 401) throw new Unauthorized();
  if (reply.ok) return reply.json();
  const told = await reply.json().catch(() => ({})); // a proxy may say no in its own words
  throw new Refused(told.detail ?? `${path} is answered with HTTP ${reply.status}`);
}

/** Looks at one session until it is closed. */
export class Look {
  /** How many ended without a message, one after the other. */
  static unheard = 0;

  /** on: {view(buffer), status(message), end(error)}; `end` is called once, unless we close it. */
  constructor(sessionId, on) {
    this.sessionId = sessionId;
    const address = new URL(`/ws/view/${encodeURIComponent(sessionId)}`, location.href);
    address.protocol = address.protocol.replace("http", "ws");
    this.socket = new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.socket.send(JSON.stringify({ type: "view_start", ...(token.get() && { auth_token: token.get() }) }));
    this.socket.onmessage = ({ data }) => {
      this._wait(on);
      this.isHeard = true;
      Look.unheard = 0;
      if (data instanceof ArrayBuffer) return on.view(data);
      const message = JSON.parse(data);
      if (message.type === "view_status") on.status(message);
      if (message.type === "error") this.why = message;
    };
    this.socket.onclose = () => { clearTimeout(this.timer); on.end(this._reason()); };
    this._wait(on);
  }

  /** A connection that a proxy or a router forgot ends on neither side by itself. */
  _wait(on) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => { this.close(); on.end(this._reason()); }, SILENCE_MS);
  }

  _reason() {
    if (!this.isHeard) Look.unheard += 1;
    if (!this.why) return Look.unheard > 1 ? new Refused(UNHEARD) : new Gone();
    const { code, message, retry_after_secs } = this.why;
    return code === "unauthorized" ? new Unauthorized() : new Refused(message, retry_after_secs ?? 0);
  }

  close() {
    clearTimeout(this.timer);
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
  }
}
