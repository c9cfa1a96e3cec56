// SPDX-License-Identifier: Apache-2.0
// The page: tiles of the trackers, and a panel about the one that is selected.

import { Connection } from "/connection.js";
import { showParameters } from "/settings.js";
import { STATES } from "/states.js";
import { Tile } from "/tile.js";
import { drawTimeline, listEpisodes } from "/timeline.js";

const TICK = 100; // milliseconds
const $ = (id) => document.getElementById(id);

const tiles = [];
let selected = null;
let isOperator = false;
let announced = "";
const rates = new Map(); // of each tile: {stamp, processed, dropped} some time ago, for what is lost

const connection = new Connection({ hello, report, frame, status });
// What tests and curious people look at; nothing on the page depends on it.
window.vtConsole = { tiles, connection };

function hello(message) {
  isOperator = message.role === "operator";
  document.body.classList.toggle("viewer", !isOperator);
  $("role").hidden = isOperator;
  $("models").replaceChildren(...message.models.map((name) => new Option(name)));
  const names = tiles.map(({ name }) => name).join(" ");
  if (names !== message.trackers.join(" ")) {
    tiles.splice(0, tiles.length, ...message.trackers.map((name) => new Tile(name, handlers)));
    $("tiles").replaceChildren(...tiles.map(({ element }) => element));
    $("tiles").dataset.count = tiles.length;
    selected = null;
    handlers.select(tiles[0]);
    tiles.forEach((tile) => new ResizeObserver(() => tile.draw()).observe(tile.canvas));
  }
  tiles.forEach((tile) => { tile.toldWidth = null; });
  tellWidths();
}

function report({ tracker, ...content }) {
  tiles[tracker].takeReport(content);
  if (tiles[tracker] === selected) showPanel();
}

function frame(state, jpeg) {
  const tile = tiles[state.tracker];
  state.bytes = jpeg.byteLength;
  tile.take(state, jpeg, () => {
    const { tracker, frame: number, transfer_ms } = state;
    connection.send({ type: "shown", tracker, frame: number, transfer_ms });
    if (tile === selected) showState();
  });
}

function status(word, isOpen) {
  $("connection").textContent = word;
  $("connection").classList.toggle("bad", !isOpen);
  document.body.classList.toggle("offline", !isOpen);
}

const handlers = {
  isOperator: () => isOperator,

  select(tile) {
    if (tile === selected) return;
    selected?.drop();
    selected = tile;
    tiles.forEach((each) => each.select(each === tile));
    $("snapshot").href = `/snapshot?tracker=${tiles.indexOf(tile)}`;
    $("candidates").hidden = true;
    tell({ ok: true, message: "" });
    showPanel();
    showState();
  },

  async start(tile, { stamp, ...what }) {
    tile.pending = what.box ?? null;
    tile.pendingAfter = tile.shown?.state.target;
    const answer = await ask({ type: "start", tracker: tiles.indexOf(tile), stamp, ...what });
    tile.pending = null;
    // Several that fit are a question, not a failure.
    const ok = answer.ok || answer.candidates.length > 0;
    tell({ ok, message: answer.message || "Target set" });
    return answer;
  },

  async choose(tile, index) {
    const { boxes, stamp, text } = tile.candidates;
    tile.drop();
    $("candidates").hidden = true;
    await handlers.start(tile, { box: boxes[index], text, stamp });
  },
};

async function startText() {
  const tile = selected;
  const text = $("text").value.trim();
  if (!text || !tile?.shown) return;
  tile.drop();
  $("candidates").hidden = true;
  // The frame that is searched, should the answer be a question about it; the newest search counts.
  const search = { text, frame: tile.shown };
  tile.search = search;
  tell({ ok: true, message: `Looking for “${text}” …` });
  const answer = await handlers.start(tile, { text, stamp: tile.stamp });
  if (tile.search !== search) return;
  tile.search = null;
  if (!answer.candidates.length || !search.frame.bitmap) return;
  tile.choose(answer.candidates, answer.stamp, search);
  showCandidates(tile, answer.candidates.length);
}

function showCandidates(tile, count) {
  $("candidates").hidden = false;
  $("candidates").replaceChildren(...Array.from({ length: count }, (_, index) => {
    const chip = document.createElement("button");
    chip.type = "button";
    chip.className = "chip";
    chip.textContent = `${index + 1}`;
    chip.setAttribute("aria-label", `Candidate ${index + 1} of ${count}`);
    chip.addEventListener("click", () => handlers.choose(tile, index));
    return chip;
  }));
  $("candidates").firstElementChild.focus();
}

async function stop() {
  selected?.drop();
  $("candidates").hidden = true;
  tell({ ok: true, message: "Stopping …" }); // a tracker that hangs must not seem to have stopped
  tell(await ask({ type: "stop", tracker: tiles.indexOf(selected) }));
}

async function confirmTarget(accept) {
  tell(await ask({ type: "confirm", tracker: tiles.indexOf(selected), accept }));
}

function ask(message) {
  return connection.request(message);
}

/** Say what came of a request; a refusal is read out at once. */
function tell({ ok, message }) {
  $("answer").textContent = ok ? message : "";
  $("alarm").textContent = ok ? "" : message;
}

function showState() {
  const state = selected?.shown?.state;
  if (!state) return;
  $("confirmation").hidden = !(state.unconfirmed && isOperator);
  const known = Number.isFinite;
  const lost = lostShare(state);
  const hasTarget = state.target > 0;
  const bearing = (value, names) => `${Math.abs(value).toFixed(1)}° ${names[value < 0 ? 0 : 1]}`;
  const facts = {
    State: state.state === "IDLE" && !isOperator
      ? STATES.IDLE.word
      : `${STATES[state.state].word}, ${STATES[state.state].say}`,
    Confidence: known(state.score) && hasTarget ? state.score.toFixed(2) : "–",
    "Last measured": known(state.unmeasured) ? `${state.unmeasured.toFixed(1)} s ago` : "–",
    Bearing: known(state.azimuth)
      ? `${bearing(state.azimuth, ["left", "right"])}, ${bearing(state.elevation, ["up", "down"])}`
      : "–",
    Inference: state.inference_ms > 0 ? `${state.inference_ms.toFixed(1)} ms` : "–",
    Dropped: lost,
    Target: state.target ? `${state.target}, ${state.model}` : state.model || "–",
    Frame: `${selected.size.width} × ${selected.size.height}, ${Math.round(state.bytes / 1000)} kB, quality ${state.quality}`,
  };
  const list = $("facts");
  if (list.children.length !== Object.keys(facts).length) {
    list.replaceChildren(...Object.keys(facts).map((name) => {
      const row = document.createElement("div");
      const term = document.createElement("dt");
      term.textContent = name;
      row.append(term, document.createElement("dd"));
      return row;
    }));
  }
  Object.values(facts).forEach((text, index) => {
    const place = list.children[index].lastElementChild;
    if (place.textContent !== text) place.textContent = text;
  });
  announce(`${selected.name}: ${state.unconfirmed ? "found again, waits for you" : facts.State}`);
}

/** Frames that the tracker passed over, of those of the last seconds. */
function lostShare(state) {
  if (!Number.isFinite(state.processed)) return "–";
  const now = performance.now();
  let then = rates.get(selected);
  if (!then || now - then.at > 4000 || state.processed < then.processed) {
    then = { at: now, processed: state.processed, dropped: state.dropped, last: then?.share };
    rates.set(selected, then);
  }
  const dropped = state.dropped - then.dropped;
  const all = dropped + state.processed - then.processed;
  if (all >= 5) then.share = `${Math.round((100 * dropped) / all)} % now, `;
  const refused = state.rejected ? `; ${state.rejected} unreadable` : "";
  return `${then.share ?? then.last ?? ""}${state.dropped} in all${refused}`;
}

function announce(text) {
  if (text === announced) return;
  announced = text;
  $("announcer").textContent = text;
}

function showPanel() {
  if (!selected) return;
  const { report: about } = selected;
  const order = ["ERROR", "WARN", "STALE", "OK"];
  const items = about.diagnostics.map(({ task, level, message }) => ({ level, text: `${task}: ${message}` }));
  if (about.state) items.unshift({ level: "WARN", text: about.state });
  items.sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level));
  const good = items.filter(({ level }) => level === "OK");
  listHealth($("problems"), items.filter(({ level }) => level !== "OK"));
  listHealth($("fine"), good);
  $("health-summary").textContent =
    good.length === items.length && good.length ? `All ${good.length} checks are fine` : `${good.length} checks are fine`;
  $("fine-box").hidden = !good.length;
  showParameters($("parameters"), selected.name, about.parameters, (name, value) =>
    ask({ type: "set_parameter", tracker: tiles.indexOf(selected), name, value }));
  $("settings").hidden = !about.parameters.length;
  $("record").disabled = !about.records;
  $("record").title = about.records ? "" : "this tracker has no flight recorder";
}

function listHealth(list, items) {
  const key = JSON.stringify(items);
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...items.map(({ level, text }) => {
    const item = document.createElement("li");
    item.dataset.level = level;
    const word = document.createElement("b");
    word.textContent = level;
    const words = document.createElement("span");
    words.textContent = text;
    item.append(word, words);
    return item;
  }));
}

/** Tell the server how large each tile is shown, so that no larger frames are sent. */
function tellWidths() {
  tiles.forEach((tile, tracker) => {
    const width = Math.min(16384, tile.wantedWidth);
    const told = tile.toldWidth ?? -1;
    if (width === told || (width && Math.abs(width - told) < 8)) return;
    tile.toldWidth = width;
    connection.send({ type: "view", tracker, width });
  });
}

setInterval(() => {
  const now = connection.serverNow;
  tiles.forEach((tile) => {
    tile.tick(now);
    if (document.body.classList.contains("offline")) tile.cover("No connection to the console");
    else if (!tile.shown) tile.cover(tile.report.state || "Waiting for the first frame");
    else if (tile.isStopped && tile.report.state) tile.cover(tile.report.state);
    else if (!tile.shown.state.unreadable) tile.cover("");
  });
  tellWidths();
  if (!selected) return;
  const { timeline } = selected.report;
  drawTimeline($("timeline"), timeline, now);
  if (!Number.isNaN(now)) listEpisodes($("episodes"), timeline, now);
}, TICK);

document.addEventListener("visibilitychange", tellWidths);
$("stop").addEventListener("click", stop);
$("confirm").addEventListener("click", () => confirmTarget(true));
$("reject").addEventListener("click", () => confirmTarget(false));
$("text-form").addEventListener("submit", (event) => {
  event.preventDefault();
  startText();
});
$("record").addEventListener("click", async () => {
  tell(await ask({ type: "save_recording", tracker: tiles.indexOf(selected) }));
});
$("help-button").addEventListener("click", () => $("help").showModal());

const ARROWS = {
  ArrowLeft: { x: -1, y: 0 },
  ArrowRight: { x: 1, y: 0 },
  ArrowUp: { x: 0, y: -1 },
  ArrowDown: { x: 0, y: 1 },
};

document.addEventListener("keydown", (event) => {
  if (!selected || $("help").open || event.ctrlKey || event.metaKey) return;
  const { target, key } = event;
  if (key === "Escape") {
    event.preventDefault();
    $("candidates").hidden = true;
    if (!selected.drop() && isOperator) stop();
    return;
  }
  if (target.matches("input, select, textarea, summary")) return;
  const act = keyAction(event, target.matches("button, a"));
  if (act) {
    event.preventDefault();
    act();
  }
});

/** Return what a key does; null: nothing of ours. On a button, Enter and space are the button's. */
function keyAction(event, onButton) {
  const { key } = event;
  if (key === "+" || key === "=") return () => selected.zoom(1.25);
  if (key === "-") return () => selected.zoom(0.8);
  if (key === "0") return () => selected.zoom(0);
  if (key === "?") return () => $("help").showModal();
  if (!isOperator) return null;
  const arrow = ARROWS[key];
  if (arrow) {
    const step = event.altKey ? 1 : Math.max(1, Math.round(selected.size.width / 160 / selected.focus.zoom));
    const [dx, dy] = [arrow.x * step, arrow.y * step];
    return () => selected.nudge(event.shiftKey ? { dw: dx, dh: dy } : { dx, dy });
  }
  if (/^[1-9]$/.test(key) && selected.candidates?.boxes[key - 1]) {
    return () => handlers.choose(selected, key - 1);
  }
  const box = selected.keyboardBox;
  if (key === "Enter" && box && !onButton) {
    return () => {
      const { stamp } = selected;
      selected.drop();
      handlers.start(selected, { box, stamp });
    };
  }
  if (key === "/") return () => $("text").focus();
  const waits = selected.shown?.state.unconfirmed;
  return { b: () => selected.nudge(), y: waits && (() => confirmTarget(true)), n: waits && (() => confirmTarget(false)) }[
    key.toLowerCase()
  ] || null;
}
