// SPDX-License-Identifier: Apache-2.0
// The states of the last two minutes: as a band, and the last changes in words.

import { STATES, shapeOf } from "/states.js";

const SPAN = 120000; // milliseconds
const MOST_EPISODES = 5;
// Beside the colour, each state has its own height, so that the band reads without colour.
const HEIGHTS = { TRACKING: 1, UNCERTAIN: 0.7, COASTING: 0.45, LOST: 0.22, IDLE: 0.08, SILENT: 0.08 };

/** Draw the band onto a canvas; times in milliseconds of the server's clock. */
export function drawTimeline(canvas, episodes, now) {
  const { width, height } = canvas.getBoundingClientRect();
  if (!width || Number.isNaN(now)) return;
  canvas.width = Math.round(width * devicePixelRatio);
  canvas.height = Math.round(height * devicePixelRatio);
  const context = canvas.getContext("2d");
  context.scale(devicePixelRatio, devicePixelRatio);
  const at = (time) => width * (1 - (now - time) / SPAN);
  episodes.forEach(({ begin_ms: begin, state }, index) => {
    const end = episodes[index + 1]?.begin_ms ?? now;
    if (end < now - SPAN) return;
    const left = Math.max(0, at(begin));
    const tall = Math.max(3, HEIGHTS[state] * (height - 2));
    context.fillStyle = STATES[state].colour;
    context.fillRect(left, height - tall, Math.max(1.5, at(end) - left), tall);
  });
  context.fillStyle = getComputedStyle(canvas).color;
  context.globalAlpha = 0.35;
  for (let ago = 30000; ago < SPAN; ago += 30000) context.fillRect(at(now - ago), 0, 1, height);
}

/** Write the last changes into a list, the newest first. */
export function listEpisodes(list, episodes, now) {
  const newest = episodes.slice(-MOST_EPISODES).reverse();
  const key = JSON.stringify(newest);
  if (list.dataset.key !== key) {
    list.dataset.key = key;
    list.replaceChildren(...newest.map(({ state, target, reason }) => {
      const item = document.createElement("li");
      item.dataset.state = state;
      const words = document.createElement("span");
      const whose = target ? ` (target ${target})` : "";
      words.textContent = `${STATES[state].word}${whose}${reason ? `: ${reason}` : ""}`;
      item.append(shapeOf(state), words, document.createElement("time"));
      return item;
    }));
  }
  list.querySelectorAll("time").forEach((time, index) => {
    const seconds = Math.max(0, Math.round((now - newest[index].begin_ms) / 1000));
    time.textContent = seconds < 90 ? `${seconds} s ago` : `${Math.round(seconds / 60)} min ago`;
  });
}
