// SPDX-License-Identifier: Apache-2.0
// Between the pixels of the source image, in which boxes are, and those of a canvas that shows it
// letterboxed, zoomed and moved. A canvas pixel is scale * image pixel + offset.

/**
 * Return where an image lies on a canvas.
 *
 * @param {{width: number, height: number}} canvas
 * @param {{width: number, height: number}} image
 * @param {{zoom: number, x: number, y: number}} focus zoom of 1 shows all; x, y: the image point,
 *   as fractions, that is in the middle, as far as that leaves no border inside the image
 */
export function place(canvas, image, focus) {
  const scale = Math.min(canvas.width / image.width, canvas.height / image.height) * focus.zoom;
  const along = (length, size, at) => {
    const shown = size * scale;
    if (shown <= length) return (length - shown) / 2;
    return Math.min(0, Math.max(length - shown, length / 2 - at * shown));
  };
  return {
    scale,
    x: along(canvas.width, image.width, focus.x),
    y: along(canvas.height, image.height, focus.y),
  };
}

export function toImage(at, point) {
  return { x: (point.x - at.x) / at.scale, y: (point.y - at.y) / at.scale };
}

export function toCanvas(at, point) {
  return { x: point.x * at.scale + at.x, y: point.y * at.scale + at.y };
}

/** Return the focus after zooming by a factor, with the image point under `point` kept there. */
export function zoomed(canvas, image, focus, factor, point) {
  const zoom = Math.min(16, Math.max(1, focus.zoom * factor));
  const kept = toImage(place(canvas, image, focus), point);
  const scale = Math.min(canvas.width / image.width, canvas.height / image.height) * zoom;
  return {
    zoom,
    x: clamp((kept.x + (canvas.width / 2 - point.x) / scale) / image.width, 0, 1),
    y: clamp((kept.y + (canvas.height / 2 - point.y) / scale) / image.height, 0, 1),
  };
}

/** Return the focus after moving what is shown by canvas pixels. */
export function moved(canvas, image, focus, dx, dy) {
  const { scale } = place(canvas, image, focus);
  const half = 0.5 / focus.zoom;
  // Beyond the border nothing moves, so the way back must not be longer.
  const within = (value) => clamp(value, Math.min(half, 0.5), Math.max(1 - half, 0.5));
  return {
    zoom: focus.zoom,
    x: within(focus.x - dx / (scale * image.width)),
    y: within(focus.y - dy / (scale * image.height)),
  };
}

/** Return the box [x, y, w, h] between two image points, inside the image. */
export function boxBetween(a, b, image) {
  const left = clamp(Math.min(a.x, b.x), 0, image.width);
  const top = clamp(Math.min(a.y, b.y), 0, image.height);
  const right = clamp(Math.max(a.x, b.x), 0, image.width);
  const bottom = clamp(Math.max(a.y, b.y), 0, image.height);
  return [left, top, right - left, bottom - top];
}

/** Return a box moved and resized by so much, at least 2 pixels a side and inside the image. */
export function nudged([x, y, w, h], { dx = 0, dy = 0, dw = 0, dh = 0 }, image) {
  const width = clamp(w + dw, 2, image.width);
  const height = clamp(h + dh, 2, image.height);
  return [
    clamp(x + dx - (width - w) / 2, 0, image.width - width),
    clamp(y + dy - (height - h) / 2, 0, image.height - height),
    width,
    height,
  ];
}

export function isInside(point, image) {
  return point.x >= 0 && point.y >= 0 && point.x < image.width && point.y < image.height;
}

export function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}
