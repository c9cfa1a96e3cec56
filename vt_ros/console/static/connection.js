// SPDX-License-Identifier: Apache-2.0
// The WebSocket: frames with their states come in, requests go out and are answered.

const RETRY = { first: 500, most: 5000 }; // milliseconds
const CLOCK_PERIOD = 2000;
const PATIENCE = 6000; // without any answer the link is dead, whatever the browser says of it
const CLOCK_SAMPLES = 8;

/**
 * Connects, and connects again whenever the connection ends.
 *
 * Listeners by name: hello(message), report(message), frame(state, jpeg), status(word, isOpen).
 */
export class Connection {
  #listeners;
  #socket = null;
  #waiting = new Map();
  #number = 0;
  #retry = RETRY.first;
  #clock = [];
  #waitingSince = null; // for a sign of life; null: nothing has been asked
  #marks = new Map(); // by tracker: when the mark before its frame came

  constructor(listeners) {
    this.#listeners = listeners;
    setInterval(() => {
      this.#endIfDead();
      this.#askForTheTime();
    }, CLOCK_PERIOD);
    this.#connect();
  }

  /** Milliseconds of the server's clock, now; NaN before it is known. */
  get serverNow() {
    if (!this.#clock.length) return NaN;
    // The question that was answered soonest is the one whose middle is known best.
    const best = this.#clock.reduce((a, b) => (b.delay < a.delay ? b : a));
    return performance.now() + best.offset;
  }

  send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  /** Send a request; the promise gives its answer, also where the connection ends before. */
  request(message) {
    if (this.#socket?.readyState !== WebSocket.OPEN) {
      return Promise.resolve(refusal("There is no connection to the console."));
    }
    const id = ++this.#number;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.send({ ...message, id });
    });
  }

  #connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/ws`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.#retry = RETRY.first;
      this.#clock = [];
      // Several at first: a page that is just being built answers late.
      for (const later of [0, 200, 400, 800]) setTimeout(() => this.#askForTheTime(), later);
    };
    socket.onmessage = ({ data }) => {
      this.#waitingSince = null;
      if (typeof data === "string") this.#take(JSON.parse(data));
      else this.#takeFrame(data);
    };
    socket.onclose = () => this.#lost();
    this.#socket = socket;
    this.#waitingSince = performance.now();
  }

  /** End a connection of which nothing comes: where radio fades nobody closes it for minutes. */
  #endIfDead() {
    const isDead = this.#waitingSince !== null && performance.now() - this.#waitingSince > PATIENCE;
    if (!isDead || !this.#socket.onclose) return;
    this.#socket.onclose = this.#socket.onmessage = this.#socket.onopen = null;
    this.#socket.close();
    this.#lost();
  }

  async #lost() {
    for (const resolve of this.#waiting.values()) {
      resolve(refusal("The connection ended before the answer came."));
    }
    this.#waiting.clear();
    this.#listeners.status("no connection", false);
    setTimeout(() => this.#connect(), this.#retry);
    this.#retry = Math.min(2 * this.#retry, RETRY.most);
    // Why a WebSocket is refused is told to an ordinary request alone.
    const answer = await fetch("/ws", { cache: "no-store" }).catch(() => null);
    if (answer?.status === 403) location.assign("/login");
    else if (answer?.status === 503) this.#listeners.status(await answer.text(), false);
  }

  #askForTheTime() {
    this.#waitingSince ??= performance.now();
    this.send({ type: "clock", sent: performance.now() });
  }

  #take(message) {
    if (message.type === "mark") {
      this.#marks.set(message.tracker, performance.now());
    } else if (message.type === "clock") {
      const now = performance.now();
      const delay = now - message.sent;
      this.#clock.push({ delay, offset: message.server_ms + delay / 2 - now });
      if (this.#clock.length > CLOCK_SAMPLES) this.#clock.shift();
    } else if (message.type === "answer") {
      const resolve = this.#waiting.get(message.id);
      this.#waiting.delete(message.id);
      resolve?.(message);
    } else if (message.type === "hello") {
      this.#listeners.status("connected", true);
      this.#listeners.hello(message);
    } else if (message.type === "report") {
      this.#listeners.report(message);
    }
  }

  #takeFrame(data) {
    const length = new DataView(data).getUint32(0, true);
    const state = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
    state.transfer_ms = performance.now() - this.#marks.get(state.tracker);
    this.#listeners.frame(state, data.slice(4 + length));
  }
}

function refusal(message) {
  return { ok: false, message, candidates: [], stamp: "0" };
}
