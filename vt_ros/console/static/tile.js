// SPDX-License-Identifier: Apache-2.0
// One tracker on the page: its frames, what is drawn over them, and the hand on them.

import * as geometry from "/geometry.js";
import { STATES, shapeOf } from "/states.js";

const CLICK = 6; // CSS pixels: a shorter drag is a click
const TRAIL = 4; // seconds
const LATE = 300; // milliseconds of age from which a frame is late
const STOPPED = 2000; // milliseconds without a newer frame
const AHEAD = -50; // milliseconds of age that only clocks explain which do not agree
const HOLD_UNKNOWN = 1.0; // seconds that a tracker is taken to hold a frame, if it does not say
const HOLD_SPARE = 0.4; // of them, for the way to the tracker
const FULL = { zoom: 1, x: 0.5, y: 0.5 };

/**
 * Shows one tracker.
 *
 * @param {string} name of the tracker
 * @param {object} handlers called with the tile: select(tile), start(tile, {box | point, stamp}),
 *   choose(tile, index), isOperator()
 */
export class Tile {
  constructor(name, handlers) {
    this.name = name;
    this.handlers = handlers;
    this.report = { parameters: [], diagnostics: [], timeline: [], hold: 0, state: "" };
    this.shown = null; // {state, bitmap, at}: what is on the screen
    this.next = null; // what will be, at the next repaint
    this.draft = null; // box being drawn: [x, y, w, h], in pixels of the source image
    this.offset = null; // of a box by keyboard from the target: added to its box in each frame
    this.pending = null; // box that the tracker has been asked for
    this.search = null; // {text, frame} that is being searched
    this.candidates = null; // {boxes, stamp, text, bitmap, size}
    this.frozen = false; // while a box is drawn, the frame that it is drawn on stays
    this.focus = FULL;
    this.trail = [];
    this.isSelected = false;
    this.#build();
  }

  #pointers = new Map();
  #drag = null;
  #thaw = 0;

  #build() {
    this.element = document.createElement("article");
    this.element.className = "tile";
    this.element.innerHTML = `
      <div class="stage" tabindex="0" role="application">
        <canvas></canvas>
        <p class="badge state"></p>
        <p class="badge age"></p>
        <p class="badge hint" hidden></p>
        <p class="veil" hidden></p>
        <div class="zoom" role="group" aria-label="Zoom">
          <button type="button" aria-label="Zoom in">+</button>
          <button type="button" aria-label="Zoom out">−</button>
        </div>
      </div>
      <div class="strip">
        <span class="name"></span>
        <div class="meter" role="meter" aria-label="Confidence" aria-valuemin="0" aria-valuemax="1"><i></i></div>
        <span class="score"></span>
      </div>`;
    const find = (selector) => this.element.querySelector(selector);
    this.stage = find(".stage");
    this.canvas = find("canvas");
    this.badge = find(".state");
    this.age = find(".age");
    this.hint = find(".hint");
    this.veil = find(".veil");
    this.meter = find(".meter");
    this.score = find(".score");
    const [closer, farther] = this.element.querySelectorAll(".zoom button");
    closer.addEventListener("click", () => this.zoom(1.5));
    farther.addEventListener("click", () => this.zoom(1 / 1.5));
    this.stage.setAttribute("aria-label", `Video of ${this.name}`);
    find(".name").textContent = this.name;
    this.stage.addEventListener("focus", () => this.handlers.select(this));
    this.canvas.addEventListener("pointerdown", (event) => this.#onDown(event));
    this.canvas.addEventListener("pointermove", (event) => this.#onMove(event));
    this.canvas.addEventListener("pointerup", (event) => this.#onUp(event));
    this.canvas.addEventListener("pointercancel", (event) => this.#onCancel(event));
    this.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.canvas.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    this.#setState("SILENT", false);
  }

  /** Width in pixels of the screen that frames are wanted with; 0 while the tile is not seen. */
  get wantedWidth() {
    const { width } = this.canvas.getBoundingClientRect();
    return document.hidden ? 0 : Math.ceil(width * devicePixelRatio * this.focus.zoom);
  }

  /** Size of the source image; boxes are in its pixels. */
  get size() {
    const shown = this.candidates ?? this.shown;
    return shown ? shown.size : { width: 16, height: 9 };
  }

  /** The stamp of the frame on the screen. */
  get stamp() {
    return this.candidates?.stamp ?? this.shown?.state.stamp ?? "0";
  }

  /** The box by keyboard, as it is now; null: there is none. */
  get keyboardBox() {
    if (!this.offset) return null;
    return geometry.nudged(this.#measuredBox() ?? this.offset.box, this.offset, this.size);
  }

  select(isSelected) {
    this.isSelected = isSelected;
    this.element.classList.toggle("selected", isSelected);
    this.element.setAttribute("aria-current", String(isSelected));
  }

  /** Take a frame; `drawn` is called when it is on the screen, or has been passed over. */
  async take(state, jpeg, drawn) {
    let bitmap = null;
    if (jpeg.byteLength) {
      bitmap = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" })).catch(() => null);
    }
    this.#note(state);
    // Of the source: what is sent may be smaller.
    const [width, height] = state.size ?? [this.size.width, this.size.height];
    const next = { state, bitmap, size: { width, height } };
    requestAnimationFrame(() => {
      if (this.next) this.#release(this.next.bitmap);
      this.next = this.frozen ? next : null;
      if (!this.frozen) this.#show(next);
      drawn();
    });
  }

  takeReport(report) {
    Object.assign(this.report, report);
  }

  /** Draw everything anew. */
  draw() {
    const shown = this.candidates ?? this.shown;
    const ratio = devicePixelRatio;
    const { width, height } = this.canvas.getBoundingClientRect();
    if (!width || !height) return;
    if (this.canvas.width !== Math.round(width * ratio)) this.canvas.width = Math.round(width * ratio);
    if (this.canvas.height !== Math.round(height * ratio)) this.canvas.height = Math.round(height * ratio);
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!shown) return;
    const at = geometry.place({ width, height }, this.size, this.focus);
    if (shown.bitmap) {
      const { width: w, height: h } = this.size;
      context.imageSmoothingEnabled = this.focus.zoom < 4;
      context.drawImage(shown.bitmap, at.x, at.y, w * at.scale, h * at.scale);
    }
    const pen = new Pen(context, at);
    if (this.candidates) {
      this.candidates.boxes.forEach((box, index) => pen.candidate(box, index + 1));
    } else {
      this.#drawTrail(pen);
      this.#drawTarget(pen, shown.state);
    }
    const draft = this.draft ?? this.keyboardBox;
    if (this.pending && !draft) pen.draft(this.pending, "asked for");
    if (draft) pen.draft(draft, `${Math.round(draft[2])} × ${Math.round(draft[3])}`);
  }

  /** Write how old the frame on the screen is; `serverNow` in the server's milliseconds. */
  tick(serverNow) {
    const state = this.shown?.state;
    const since = state ? serverNow - state.server_ms : NaN;
    this.isStopped = since >= STOPPED;
    this.ageMs = NaN;
    if (!state || state.age_ms === null || Number.isNaN(serverNow)) {
      this.age.textContent = state ? "no stamp" : "no frame";
      return;
    }
    if (state.age_ms < AHEAD) {
      this.age.textContent = "age unknown: stamps are ahead";
      this.age.classList.add("late");
      return;
    }
    this.ageMs = Math.max(0, state.age_ms + since);
    const word = this.isStopped ? "stopped" : this.ageMs >= LATE ? "late" : "";
    const shown = this.ageMs < 10000 ? `${Math.round(this.ageMs)} ms` : `${Math.round(this.ageMs / 1000)} s`;
    const words = [shown, this.isSelected && word, this.frozen && "held"];
    this.age.textContent = words.filter(Boolean).join(" · ");
    this.age.classList.toggle("late", Boolean(word));
  }

  /** Say over the frame what keeps it from being live; empty: nothing does. */
  cover(text) {
    this.veil.hidden = !text;
    this.veil.textContent = text;
    this.age.hidden = Boolean(text) && !this.isStopped;
  }

  /** Zoom in or out around a point of the stage, or around its middle. */
  zoom(factor, point = null) {
    const rect = this.canvas.getBoundingClientRect();
    const middle = { x: rect.width / 2, y: rect.height / 2 };
    this.focus = factor ? geometry.zoomed(rect, this.size, this.focus, factor, point ?? middle) : FULL;
    this.draw();
  }

  /** Begin, move or resize the box by keyboard; it stays with a target that is measured. */
  nudge(change = {}) {
    if (!this.shown) return;
    const { width, height } = this.size;
    if (!this.offset) {
      const side = Math.min(width, height) / 5;
      const box = [width / 2 - side / 2, height / 2 - side / 2, side, side];
      this.offset = { box, dx: 0, dy: 0, dw: 0, dh: 0 };
    }
    for (const key of ["dx", "dy", "dw", "dh"]) this.offset[key] += change[key] ?? 0;
    this.#say("Enter starts, Esc drops this box");
    this.draw();
  }

  /** Show the candidates of an answer on the frame that was searched. */
  choose(boxes, stamp, { text, frame }) {
    this.candidates = { boxes, stamp, text, bitmap: frame.bitmap, size: frame.size };
    this.#say("Which one? Tap it");
    this.draw();
  }

  /** Drop what is being drawn or chosen; return whether there was something. */
  drop() {
    const had = Boolean(this.draft || this.offset || this.candidates);
    this.draft = this.offset = this.candidates = this.search = this.#drag = null;
    this.unfreeze();
    this.#say("");
    this.draw();
    return had;
  }

  unfreeze() {
    clearTimeout(this.#thaw);
    this.frozen = false;
    if (this.next) this.#show(this.next);
    this.next = null;
  }

  #show(next) {
    if (this.shown) this.#release(this.shown.bitmap);
    this.shown = next;
    const { width, height } = next.size;
    this.canvas.style.aspectRatio = `${width} / ${height}`;
    this.#setState(next.state.state, next.state.unconfirmed);
    this.#setConfidence(next.state.score);
    this.cover(next.state.unreadable ? `This frame cannot be shown: ${next.state.unreadable}` : "");
    this.draw();
  }

  /** Free a frame's memory, unless somebody still chooses in it or waits for its candidates. */
  #release(bitmap) {
    if (bitmap && bitmap !== this.candidates?.bitmap && bitmap !== this.search?.frame.bitmap) bitmap.close();
  }

  #note(state) {
    if (this.pending && state.target && state.target !== this.pendingAfter) this.pending = null;
    const seconds = Number(BigInt(state.stamp) / 1000000n) / 1000;
    const last = this.trail.at(-1);
    if (last && (last.target !== state.target || seconds < last.seconds)) this.trail = [];
    if (state.box) {
      const [x, y, w, h] = state.box;
      const point = { x: x + w / 2, y: y + h / 2, seconds, target: state.target };
      this.trail.push({ ...point, measured: state.measured });
    }
    if (state.state !== "LOST") this.trail = this.trail.filter((one) => seconds - one.seconds <= TRAIL);
  }

  #setState(state, isUnconfirmed) {
    const label = isUnconfirmed ? "Found again?" : STATES[state].word;
    if (this.badge.dataset.state === state && this.badge.textContent === label) return;
    this.badge.dataset.state = state;
    this.badge.replaceChildren(shapeOf(state), label);
    this.badge.title = STATES[state].say;
  }

  #setConfidence(score) {
    const known = Number.isFinite(score);
    this.meter.firstElementChild.style.width = known ? `${Math.round(100 * score)}%` : "0";
    this.meter.setAttribute("aria-valuenow", known ? score.toFixed(2) : "0");
    this.meter.dataset.state = this.badge.dataset.state;
    this.score.textContent = known ? score.toFixed(2) : "–";
  }

  #measuredBox() {
    const state = this.shown?.state;
    return state?.measured ? state.box : null;
  }

  #drawTrail(pen) {
    if (this.shown.state.state === "LOST") return; // where it was last seen is told by a cross
    const newest = this.trail.at(-1)?.seconds;
    this.trail.slice(1).forEach((point, index) => {
      pen.segment(this.trail[index], point, 1 - (newest - point.seconds) / TRAIL, point.measured);
    });
  }

  #drawTarget(pen, state) {
    const { colour } = STATES[state.state];
    if (state.state === "COASTING") {
      if (state.box) pen.corners(state.box, colour);
      if (state.prediction) pen.ghost(state.prediction, colour);
    } else if (state.box) {
      pen.box(state.box, colour, state.state === "UNCERTAIN" || state.unconfirmed);
    } else if (state.state === "LOST") {
      const seen = this.trail.filter((point) => point.measured).at(-1);
      if (seen) pen.lastSeen(seen, colour);
    }
  }

  #say(text) {
    this.hint.hidden = !text;
    this.hint.textContent = text;
  }

  #point(event) {
    const rect = this.canvas.getBoundingClientRect();
    return { x: event.clientX - rect.left, y: event.clientY - rect.top };
  }

  #place() {
    return geometry.place(this.canvas.getBoundingClientRect(), this.size, this.focus);
  }

  #onDown(event) {
    const wasSelected = this.isSelected;
    this.stage.focus({ preventScroll: true });
    this.handlers.select(this);
    if (!wasSelected) return; // the first touch of a small tile chooses it, and nothing else
    this.canvas.setPointerCapture(event.pointerId);
    const point = this.#point(event);
    this.#pointers.set(event.pointerId, point);
    if (this.#pointers.size > 1) {
      this.#endDrawing(); // a second finger: this is a pinch
    } else if (event.button === 0 && this.shown && this.handlers.isOperator()) {
      this.#drag = { from: point, at: this.#place(), stamp: this.stamp };
      if (!this.candidates) this.#freeze();
    } else if (event.button !== 0 || !this.handlers.isOperator()) {
      this.#drag = { pan: point };
    }
  }

  #onMove(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const point = this.#point(event);
    this.#pointers.set(event.pointerId, point);
    const rect = this.canvas.getBoundingClientRect();
    if (this.#pointers.size === 2) {
      const other = [...this.#pointers].find(([id]) => id !== event.pointerId)[1];
      const spread = (one) => Math.hypot(one.x - other.x, one.y - other.y);
      const middle = { x: (point.x + other.x) / 2, y: (point.y + other.y) / 2 };
      const factor = spread(before) > 0 ? spread(point) / spread(before) : 1;
      this.focus = geometry.moved(
        rect, this.size, this.focus, (point.x - before.x) / 2, (point.y - before.y) / 2);
      this.zoom(factor, middle);
    } else if (this.#drag?.pan) {
      this.focus = geometry.moved(
        rect, this.size, this.focus, point.x - before.x, point.y - before.y);
      this.draw();
    } else if (this.#drag && !this.candidates && this.#isDrag(point)) {
      const { at, from } = this.#drag;
      this.offset = null;
      this.draft = geometry.boxBetween(
        geometry.toImage(at, from), geometry.toImage(at, point), this.size);
      this.#say(this.frozen ? "The frame is held while you draw" : "Live: counts when you let go");
      this.draw();
    }
  }

  #onUp(event) {
    const drag = this.#drag;
    const point = this.#point(event);
    this.#pointers.delete(event.pointerId);
    if (!drag || drag.pan) {
      if (!this.#pointers.size) this.#drag = null;
      return;
    }
    const isDrag = this.#isDrag(point);
    const box = this.draft;
    // The frame that it was drawn on, or, had it to be let go, the one that was seen at the end.
    const stamp = this.frozen ? drag.stamp : this.stamp;
    const at = geometry.toImage(drag.at, drag.from);
    this.#endDrawing();
    if (this.candidates) {
      const index = this.candidates.boxes.findIndex(([x, y, w, h]) =>
        at.x >= x && at.x <= x + w && at.y >= y && at.y <= y + h);
      if (index >= 0) this.handlers.choose(this, index);
    } else if (isDrag && box && box[2] > 0 && box[3] > 0) {
      this.handlers.start(this, { box, stamp });
    } else if (!isDrag && geometry.isInside(at, this.size)) {
      this.handlers.start(this, { point: [at.x, at.y], stamp });
    }
  }

  #onCancel(event) {
    this.#pointers.delete(event.pointerId);
    this.#endDrawing();
  }

  #onWheel(event) {
    if (!this.isSelected) return;
    event.preventDefault();
    this.zoom(Math.exp(-event.deltaY * 0.002), this.#point(event));
  }

  #isDrag(point) {
    const { from } = this.#drag;
    return Math.hypot(point.x - from.x, point.y - from.y) >= CLICK;
  }

  #endDrawing() {
    this.#drag = this.draft = null;
    this.#say("");
    this.unfreeze();
    this.draw();
  }

  /** Hold the frame on the screen, for as long as the tracker can still start on it. */
  #freeze() {
    const hold = (this.report.hold || HOLD_UNKNOWN) - HOLD_SPARE - (this.ageMs || 0) / 1000;
    if (hold <= 0) return;
    this.frozen = true;
    this.#thaw = setTimeout(() => this.unfreeze(), 1000 * hold);
  }
}

/** Draws in pixels of the source image onto a canvas. */
class Pen {
  constructor(context, at) {
    this.context = context;
    this.at = at;
  }

  /** A box that was measured: a full line; a doubted one is dashed. */
  box(box, colour, isDoubted) {
    this.#outlined(colour, 2.5, isDoubted ? [10, 5] : [], () => this.context.rect(...this.#rect(box)));
  }

  /** A box that was not measured: its corners alone. */
  corners(box, colour) {
    const [x, y, w, h] = this.#rect(box);
    this.#outlined(colour, 2.5, [], () => {
      for (const [left, right] of [[x, x + w / 4], [x + w, x + (3 * w) / 4]]) {
        for (const [top, bottom] of [[y, y + h / 4], [y + h, y + (3 * h) / 4]]) {
          this.context.moveTo(right, top);
          this.context.lineTo(left, top);
          this.context.lineTo(left, bottom);
        }
      }
    });
  }

  /** Where the target is expected by now. */
  ghost(box, colour) {
    const [x, y, w, h] = this.#rect(box);
    this.context.globalAlpha = 0.18;
    this.context.fillStyle = colour;
    this.context.fillRect(x, y, w, h);
    this.context.globalAlpha = 1;
    this.#outlined(colour, 1.5, [3, 4], () => this.context.rect(x, y, w, h));
    this.#label("expected now", x, y + h + 16, colour);
  }

  segment(a, b, strength, isMeasured) {
    const from = geometry.toCanvas(this.at, a);
    const to = geometry.toCanvas(this.at, b);
    this.context.globalAlpha = Math.max(0.08, 0.8 * strength);
    this.context.strokeStyle = isMeasured ? STATES.TRACKING.colour : STATES.COASTING.colour;
    this.context.lineWidth = 2;
    this.context.setLineDash(isMeasured ? [] : [2, 4]);
    this.context.beginPath();
    this.context.moveTo(from.x, from.y);
    this.context.lineTo(to.x, to.y);
    this.context.stroke();
    this.context.globalAlpha = 1;
  }

  lastSeen(point, colour) {
    const { x, y } = geometry.toCanvas(this.at, point);
    this.#outlined(colour, 2.5, [], () => {
      this.context.moveTo(x - 8, y - 8);
      this.context.lineTo(x + 8, y + 8);
      this.context.moveTo(x + 8, y - 8);
      this.context.lineTo(x - 8, y + 8);
    });
    this.#label("last seen", x + 14, y + 5, colour);
  }

  draft(box, label) {
    const [x, y, w, h] = this.#rect(box);
    this.#outlined("#ffffff", 2, [6, 4], () => this.context.rect(x, y, w, h));
    this.#label(label, x, y - 7, "#ffffff");
  }

  candidate(box, number) {
    const [x, y, w, h] = this.#rect(box);
    this.#outlined("#ffe14d", 2.5, [], () => this.context.rect(x, y, w, h));
    this.context.font = "bold 15px system-ui, sans-serif";
    this.context.fillStyle = "#ffe14d";
    this.context.fillRect(x - 1, y - 1, 22, 22);
    this.context.fillStyle = "#1b1f23";
    this.context.fillText(String(number), x + 6, y + 16);
  }

  #rect([x, y, w, h]) {
    const corner = geometry.toCanvas(this.at, { x, y });
    return [corner.x, corner.y, w * this.at.scale, h * this.at.scale];
  }

  /** Stroke a path twice: dark and wider below, so that it is seen on any frame. */
  #outlined(colour, width, dash, path) {
    const { context } = this;
    context.setLineDash(dash);
    for (const [style, line] of [["rgb(0 0 0 / 70%)", width + 2.5], [colour, width]]) {
      context.strokeStyle = style;
      context.lineWidth = line;
      context.beginPath();
      path();
      context.stroke();
    }
    context.setLineDash([]);
  }

  #label(text, x, y, colour) {
    const { context } = this;
    context.font = "13px system-ui, sans-serif";
    const inside = Math.max(14, y);
    context.lineWidth = 3;
    context.strokeStyle = "rgb(0 0 0 / 70%)";
    context.strokeText(text, x, inside);
    context.fillStyle = colour;
    context.fillText(text, x, inside);
  }
}
