// One session over /ws/stream that survives lost connections, overloaded and restarted gateways. It knows no
// page and no picture: it is told of frames, and tells its listener what comes.

import { BINARY, JSON_FORM, ProtocolError, decode, encodeFrame, encodeHeartbeat, encodeKeyframe, encodeStart } from "./protocol.js";

const HEARTBEAT_MS = 1000, START_TIMEOUT_MS = 10_000, SILENCE_TIMEOUT_MS = 10_000;
const FIRST_BACKOFF_SECS = 0.2, MAX_BACKOFF_SECS = 5;
/** A server that begins sessions and ends them at once is one to stay away from ever longer. */
const STEADY_MS = 5000;
const SETS_KEPT = 16;
const MAX_UNSENT_BYTES = 262_144;
/** A heartbeat that waits so much longer for its answer than the quickest one did waits behind frames. */
const BACKLOGGED_MS = 1000;

/** Fatal codes that coming back does not cure. What is not listed may be newer than this page, and is tried again. */
const PERMANENT = new Set([
  "bad_json", "bad_message", "unknown_type", "message_too_large", "no_session", "session_exists", "session_not_found",
  "session_mismatch", "session_taken_over", "unauthorized", "origin_refused", "frame_id_backwards", "resolution_mismatch",
  "too_many_samples", "state_too_long", "bad_keyframe", "unknown_set", "rate_limited",
]);

/**
 * Of the listener, `onState(client)` is called where `state` changes, `onCoordinates(set)` for each set, and
 * `onRefusal(error)` for a message that the server refused. `state` is one of
 *   stopped     not started, or ended; `reason` says why, if for good
 *   connecting  the socket is being opened, or session_start is not answered yet; `reason` says why, if again
 *   streaming   frames can be sent
 *   waiting     the connection is lost; `reason` says why, the next try comes at `retryAtMs`
 *   refused     the server refused for good; `reason` and `code` say why
 */
export class Client {
  state = "stopped";
  reason = "";
  code = "";
  retryAtMs = 0;
  sessionId = null;
  ack = null;
  form = null;
  resumed = 0;
  targetFps = 0;
  lastRecordedFrameId = -1;
  bytes = { samples: 0, keyframes: 0, rest: 0, down: 0 };

  #options;
  #listener;
  #socket = null;
  #timer = 0;
  #heartbeat = 0;
  /** Of heartbeats: {timestampSecs, sentAtMs}, the oldest first. */
  #unanswered = [];
  /** In which this connection answered one; null before it did. */
  #quickestMs = null;
  #backoffSecs = FIRST_BACKOFF_SECS;
  #streamingSinceMs = 0;
  #nextFrameId = 0;
  /** As performance.now() counts: a clock that is set would stretch the pause. */
  #pausedUntilMs = 0;
  /** When the server that sent this client away wants it back at the earliest, likewise, and what it said. */
  #away = { untilMs: 0, reason: "" };
  #sets = [];

  /** options: {url, forms, start}; `start` has the fields of encodeStart but `resume`. */
  constructor(options, listener) {
    this.#options = options;
    this.#listener = listener;
  }

  /** Begin, or resume; not before the server wants it. */
  start() {
    const pauseMs = this.#away.untilMs - performance.now();
    if (pauseMs > 0) this.#wait(pauseMs, this.#away.reason);
    else this.#connect();
  }

  /** End the session's connection; it can be resumed by `start`. */
  stop(reason = "") {
    this.#close();
    this.#enter("stopped", reason);
  }

  /** Resume the session under other options: another wish, another form, a token. One that is stopped waits for `start`. */
  restart(changes) {
    this.#options = { ...this.#options, ...changes, start: { ...this.#options.start, ...changes.start } };
    if (this.state === "stopped") return;
    this.#backoffSecs = FIRST_BACKOFF_SECS;
    this.#close();
    this.start();
  }

  /** The newest set of places, or null. */
  get newestSet() {
    return this.#sets.at(-1) ?? null;
  }

  /** Milliseconds for which the server wants no frames. */
  get pauseMs() {
    return Math.max(0, this.#pausedUntilMs - performance.now());
  }

  /** Whether a frame can be sent now. */
  get isReady() {
    return this.state === "streaming" && this.pauseMs === 0 && !this.isBacklogged;
  }

  /**
   * Whether the network is slower than the game, while it is streaming. Behind the socket's own queue the system takes
   * megabytes, minutes of frames: only answers tell of them. They may be long on their way and no frame waits.
   */
  get isBacklogged() {
    const waitedMs = this.#unanswered.length ? performance.now() - this.#unanswered[0].sentAtMs : 0;
    return this.#socket.bufferedAmount >= MAX_UNSENT_BYTES || waitedMs > (this.#quickestMs ?? 0) + BACKLOGGED_MS;
  }

  /** Whether the server wants the next frame whole. */
  get wantsKeyframe() {
    return this.ack.keyframe_interval > 0 && this.#nextFrameId % this.ack.keyframe_interval === 0;
  }

  /**
   * Send {set, state, values, timestampSecs}, and before it the whole frame if `png` is one. Its frame id, or
   * null where it cannot go: the set is of another connection or too old, so the server does not know it.
   */
  send(frame, png) {
    if (!this.isReady || !this.#sets.includes(frame.set)) return null;
    const { width, height } = this.#options.start;
    const frameId = this.#nextFrameId++;
    const state = frame.state.subarray(0, this.ack.max_state_dim);
    if (png) this.#write("keyframes", encodeKeyframe(this.form, frameId, png));
    this.#write("samples", encodeFrame(this.form, { ...frame, state, frameId, width, height }));
    return frameId;
  }

  #connect() {
    this.#enter("connecting", this.state === "waiting" ? this.reason : "");
    const socket = new WebSocket(this.#options.url, this.#options.forms);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.#open();
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ reason, code }) => this.#lose(reason || `the connection ended (${code})`);
    this.#socket = socket;
    this.#giveUpIn(START_TIMEOUT_MS);
  }

  #open() {
    this.form = this.#socket.protocol === BINARY ? BINARY : JSON_FORM;
    this.ack = null;
    this.#write("rest", encodeStart({ ...this.#options.start, resume: this.sessionId }));
  }

  #receive(data) {
    this.bytes.down += typeof data === "string" ? data.length : data.byteLength;
    if (this.state === "streaming") this.#giveUpIn(SILENCE_TIMEOUT_MS);
    try {
      this.#take(decode(data));
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#end(error);
    }
  }

  #take(message) {
    if (message.type === "error") this.#takeError(message);
    else if (!this.ack) this.#takeAck(message);
    else if (message.type === "uv_coordinates") this.#takeSet(message);
    else if (message.type === "heartbeat_ack") this.#takeHeartbeat(message);
    else throw new ProtocolError("bad_message", "a second session_start_ack");
  }

  #takeAck(ack) {
    if (ack.type !== "session_start_ack") throw new ProtocolError("bad_message", `${ack.type} before the session began`);
    const isOurs = ack.session_id === this.sessionId && ack.last_frame_id < this.#nextFrameId;
    if (ack.resumed && !isOurs) {
      this.sessionId = null; // another client went on with it
      throw new ProtocolError("bad_message", "resumed is not what this client began");
    }
    this.#nextFrameId = ack.resumed ? this.#nextFrameId : 0;
    this.resumed = ack.resumed ? this.resumed + 1 : 0;
    [this.ack, this.sessionId, this.targetFps] = [ack, ack.session_id, ack.target_fps];
  }

  #takeSet(set) {
    this.#sets.push(set);
    if (this.#sets.length > SETS_KEPT) this.#sets.shift();
    if (this.state !== "streaming") this.#beginStreaming();
    this.#listener.onCoordinates(set);
  }

  #beginStreaming() {
    this.#streamingSinceMs = performance.now();
    this.#beat(); // before any frame, for what it tells
    this.#heartbeat = setInterval(() => this.#beat(), HEARTBEAT_MS);
    this.#giveUpIn(SILENCE_TIMEOUT_MS);
    this.#enter("streaming");
  }

  #beat() {
    const timestampSecs = Date.now() / 1000;
    this.#unanswered.push({ timestampSecs, sentAtMs: performance.now() });
    this.#write("rest", encodeHeartbeat(timestampSecs));
  }

  /** They are answered in order: older ones without an answer were refused. */
  #takeHeartbeat({ timestamp, target_fps, last_recorded_frame_id }) {
    const answered = this.#unanswered.splice(0, 1 + this.#unanswered.findIndex(({ timestampSecs }) => timestampSecs === timestamp));
    if (answered.length) {
      const tookMs = performance.now() - answered.at(-1).sentAtMs;
      this.#quickestMs = Math.min(this.#quickestMs ?? tookMs, tookMs);
    }
    [this.targetFps, this.lastRecordedFrameId] = [target_fps, last_recorded_frame_id];
  }

  #takeError({ code, message, fatal, retry_after_secs }) {
    if (code === "session_not_found" && this.sessionId && !this.ack) {
      this.sessionId = null; // the server closes now: come back without the old id
      return;
    }
    const error = new ProtocolError(code, message, { retryAfterSecs: retry_after_secs ?? null });
    if (fatal) throw error;
    if (retry_after_secs) this.#pausedUntilMs = performance.now() + 1000 * retry_after_secs;
    this.#listener.onRefusal(error);
  }

  /** What is thrown while a message is taken ends the connection, or the session. */
  #end(error) {
    if (error.code === "session_taken_over") this.sessionId = null; // it is another client's now
    if (!PERMANENT.has(error.code)) return this.#lose(error.message, error.retryAfterSecs ?? 0);
    this.#close();
    this.#enter("refused", error.message, error.code);
  }

  #lose(reason, askedPauseSecs = 0) {
    const isSteady = this.state === "streaming" && performance.now() - this.#streamingSinceMs >= STEADY_MS;
    if (isSteady) this.#backoffSecs = FIRST_BACKOFF_SECS;
    this.#close();
    // Not the longer of both: who was told the same pause must not come back as one.
    const pauseMs = 1000 * (askedPauseSecs + this.#nextBackoffSecs());
    if (askedPauseSecs) this.#away = { untilMs: performance.now() + pauseMs, reason };
    this.#wait(pauseMs, reason);
  }

  #wait(pauseMs, reason) {
    this.retryAtMs = Date.now() + pauseMs;
    this.#timer = setTimeout(() => this.#connect(), pauseMs);
    this.#enter("waiting", reason);
  }

  /** Twice as long each time, and at random, so that many clients do not return as one. */
  #nextBackoffSecs() {
    const secs = this.#backoffSecs * (0.5 + Math.random() / 2);
    this.#backoffSecs = Math.min(2 * this.#backoffSecs, MAX_BACKOFF_SECS);
    return secs;
  }

  #giveUpIn(ms) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#lose("the server says nothing"), ms);
  }

  #close() {
    clearTimeout(this.#timer);
    clearInterval(this.#heartbeat);
    this.#unanswered = [];
    this.#quickestMs = null;
    this.#sets = [];
    if (!this.#socket) return;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }

  #write(account, raw) {
    this.bytes[account] += raw.length;
    this.#socket.send(raw);
  }

  #enter(state, reason = "", code = "") {
    [this.state, this.reason, this.code] = [state, reason, code];
    this.#listener.onState(this);
  }
}
