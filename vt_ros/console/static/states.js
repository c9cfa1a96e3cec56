// SPDX-License-Identifier: Apache-2.0
// Each state by colour, word and shape, so that no one of the three is needed to tell them apart.
// The colours are those of Okabe and Ito, which hold for all common kinds of colour blindness.

export const STATES = {
  TRACKING: { word: "Tracking", say: "measured in this frame", colour: "#1fc38f", shape: "circle" },
  UNCERTAIN: { word: "Uncertain", say: "measured, but doubted", colour: "#f0b429", shape: "triangle" },
  COASTING: { word: "Coasting", say: "predicted, not seen", colour: "#56b4e9", shape: "diamond" },
  LOST: { word: "Lost", say: "being searched for", colour: "#ff6a3d", shape: "cross" },
  IDLE: { word: "No target", say: "draw, click or write", colour: "#a9b4bd", shape: "ring" },
  SILENT: { word: "No tracker", say: "nothing is heard of it", colour: "#d58ad0", shape: "bar" },
};

// On a square of 16 by 16.
const SHAPES = {
  circle: "M8 2a6 6 0 1 0 0 12A6 6 0 1 0 8 2z",
  triangle: "M8 1.5 15 14H1z",
  diamond: "M8 1l7 7-7 7-7-7zM8 4.4 4.4 8 8 11.6 11.6 8z",
  cross: "M3.2 1 8 5.8 12.8 1 15 3.2 10.2 8l4.8 4.8-2.2 2.2L8 10.2 3.2 15 1 12.8 5.8 8 1 3.2z",
  ring: "M8 2a6 6 0 1 0 0 12A6 6 0 1 0 8 2zm0 2.4a3.6 3.6 0 1 1 0 7.2 3.6 3.6 0 1 1 0-7.2z",
  bar: "M1 6.4h14v3.2H1z",
};

/** Return the shape of a state as an SVG element. */
export function shapeOf(state) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", SHAPES[STATES[state].shape]);
  path.setAttribute("fill-rule", "evenodd");
  svg.append(path);
  return svg;
}
