# SPDX-License-Identifier: Apache-2.0
"""From a pair of targets to a pair of crops.

Geometry is done one crop at a time with one affine warp (the pixels are touched once); colour is
done a batch at a time, on whatever device the network runs on.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from vt_models.training.recipe.settings import AugmentConfig

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class View:
    """A square window on an image.

    Attributes:
        centre: x, y of the window's centre, pixels of the image.
        side: Side of the window along its own x axis, pixels of the image.
        aspect: The window is `side * aspect` high in the image (1: no stretching).
        angle: Rotation of the window in radians, positive clockwise on the screen.
        mirrored: The crop is flipped left to right.
    """

    centre: tuple[float, float]
    side: float
    aspect: float = 1.0
    angle: float = 0.0
    mirrored: bool = False


def jittered_view(
    box: Box,
    factor: float,
    centre_jitter: float,
    scale_jitter: float,
    rng: np.random.Generator,
    law: str = "uniform",
) -> View:
    """Draw the published random search window (STARK and its descendants).

    The box is scaled by exp(N(0, scale_jitter)) along each side and shifted by sqrt(w h) *
    centre_jitter times what `law` gives, then `factor` times its mean side is cut out.

    Args:
        box: x, y, w, h in pixels of the image.
        factor: Side of the window in mean sides of the box.
        centre_jitter: Full range of uniform shifts, in mean sides of the box.
        scale_jitter: Standard deviation of the natural logarithm of each side's scale.
        rng: Where the randomness comes from.
        law: "uniform" from -0.5 to 0.5, as published, or "laplace": as large in the mean,
            most of them smaller and some much larger, as objects move (GOTURN: Held et al., ECCV
            2016, fitted it to videos).
    """
    x, y, w, h = box
    scale = np.exp(rng.standard_normal(2) * scale_jitter)
    side = float(np.sqrt(w * scale[0] * h * scale[1]))
    drawn = rng.laplace(0.0, 0.25, 2) if law == "laplace" else rng.random(2) - 0.5
    shift = side * centre_jitter * drawn
    centre = (x + 0.5 * w + float(shift[0]), y + 0.5 * h + float(shift[1]))
    return View(centre, max(side * factor, 4.0))


def crop_view(
    image: np.ndarray, view: View, size: int, surroundings: np.ndarray | None = None
) -> np.ndarray:
    """Cut a window out.

    Args:
        image: (H, W, 3) uint8.
        view: The window.
        size: Side of the result.
        surroundings: Another image that shows where the window leaves `image`; None for black, as
            at inference.

    Returns:
        (size, size, 3) uint8.
    """
    matrix = _crop_to_image(view, size)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    if surroundings is None:
        return cv2.warpAffine(image, matrix, (size, size), flags=flags)
    canvas = cv2.resize(surroundings, (size, size))
    return cv2.warpAffine(
        image, matrix, (size, size), dst=canvas, flags=flags, borderMode=cv2.BORDER_TRANSPARENT
    )


def outside_image(shape: tuple[int, ...], view: View, size: int) -> np.ndarray:
    """Return where a crop shows nothing of its image: (size, size) bool, True outside.

    Args:
        shape: of the image: height, width, ...
        view: The window.
        size: Side of the crop.
    """
    inside = np.full(shape[:2], 1, np.uint8)
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(inside, _crop_to_image(view, size), (size, size), flags=flags) == 0


def box_in_view(box: Box, view: View) -> np.ndarray:
    """Return where a box lands in the crop.

    Under rotation the result is the bounding box of the rotated inscribed ellipse: objects rarely
    fill the corners of their boxes, so the box of the rotated corners would be too large.

    Returns:
        (4,) float32: centre x, centre y, w, h as fractions of the crop's side.
    """
    x, y, w, h = box
    dx, dy = x + 0.5 * w - view.centre[0], y + 0.5 * h - view.centre[1]
    c, s = np.cos(view.angle), np.sin(view.angle)
    u, v = (c * dx + s * dy) / view.side, (c * dy - s * dx) / (view.side * view.aspect)
    bw = np.hypot(w * c, h * s) / view.side
    bh = np.hypot(w * s, h * c) / (view.side * view.aspect)
    u = -u if view.mirrored else u
    return np.array([u + 0.5, v + 0.5, bw, bh], np.float32)


def _crop_to_image(view: View, size: int) -> np.ndarray:
    """Return the 2x3 matrix that takes crop pixels to image pixels (pixel centres at integers)."""
    c, s = np.cos(view.angle), np.sin(view.angle)
    sx = view.side / size * (-1.0 if view.mirrored else 1.0)
    sy = view.side * view.aspect / size
    linear = np.array([[c * sx, -s * sy], [s * sx, c * sy]])
    middle = 0.5 * size - 0.5
    offset = np.array(view.centre) - 0.5 - linear @ np.array([middle, middle])
    return np.hstack([linear, offset[:, None]])


def motion_blur(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur along a random direction by 3 to 11 pixels."""
    length = int(rng.integers(1, 6)) * 2 + 1
    angle = rng.uniform(0, np.pi)
    kernel = np.zeros((length, length), np.float32)
    half = length // 2
    dx, dy = np.cos(angle) * half, np.sin(angle) * half
    cv2.line(
        kernel,
        (round(half - dx), round(half - dy)),
        (round(half + dx), round(half + dy)),
        1.0,
    )
    return cv2.filter2D(crop, -1, kernel / kernel.sum())


def lower_resolution(
    crop: np.ndarray, target_px: float, wanted_px: float, quality: int
) -> np.ndarray:
    """Show a crop as if the target had fewer pixels in its video.

    Args:
        crop: (S, S, 3) uint8.
        target_px: Mean side of the target in the crop.
        wanted_px: Mean side that the target is to have in the video.
        quality: of the JPEG compression at that size, 1 to 100; 100 does without.

    Returns:
        (S, S, 3) uint8; the crop itself when `wanted_px` is not smaller than `target_px`.
    """
    size = crop.shape[0]
    small = max(round(size * wanted_px / target_px), 8)
    if small >= size:
        return crop
    coarse = cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA)
    if quality < 100:
        _, code = cv2.imencode(".jpg", coarse, [cv2.IMWRITE_JPEG_QUALITY, quality])
        coarse = cv2.imdecode(code, cv2.IMREAD_COLOR)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR)


def occlude(
    crop: np.ndarray, box: np.ndarray, foreign: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Cover 10 to 45 % of the target's box with a piece of another image.

    Args:
        crop: (S, S, 3) uint8, changed in place.
        box: cxcywh, fractions of the crop.
        foreign: (H, W, 3) uint8, any image.
        rng: Where the randomness comes from.
    """
    size = crop.shape[0]
    w, h = box[2:] * size
    share = rng.uniform(0.1, 0.45)
    tall = rng.random() < 0.5
    pw, ph = (w * share, h) if tall else (w, h * share)
    left = box[0] * size - w / 2 + rng.uniform(0, max(w - pw, 0))
    top = box[1] * size - h / 2 + rng.uniform(0, max(h - ph, 0))
    x1, y1 = max(int(left), 0), max(int(top), 0)
    x2, y2 = min(int(left + pw), size), min(int(top + ph), size)
    x2, y2 = min(x2, x1 + foreign.shape[1]), min(y2, y1 + foreign.shape[0])
    if x2 > x1 and y2 > y1:
        fx = int(rng.integers(0, foreign.shape[1] - (x2 - x1) + 1))
        fy = int(rng.integers(0, foreign.shape[0] - (y2 - y1) + 1))
        crop[y1:y2, x1:x2] = foreign[fy : fy + y2 - y1, fx : fx + x2 - x1]
    return crop


def erase(
    crop: np.ndarray, box: np.ndarray, foreign: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Paint the whole target over, so that the crop is the scene without it.

    The paint is the crop itself, shifted by more than the target's size, or another image. Its
    edge is soft, so that the edge is not what tells an absent target.

    Args:
        crop: (S, S, 3) uint8.
        box: cxcywh, fractions of the crop.
        foreign: (H, W, 3) uint8, any image.
        rng: Where the randomness comes from.

    Returns:
        (S, S, 3) uint8.
    """
    size = crop.shape[0]
    if rng.random() < 0.6:
        shift = (box[2:] * rng.uniform(1.3, 1.8) * rng.choice([-1, 1], 2) * size).astype(int)
        along = int(rng.integers(2))
        paint = np.roll(crop, int(shift[along]), axis=1 - along)
    else:
        paint = cv2.resize(foreign, (size, size))
    grown = box[2:] * rng.uniform(1.1, 1.4)
    (x1, y1), (x2, y2) = (((box[:2] + s * grown / 2) * size).astype(int) for s in (-1, 1))
    mask = np.zeros((size, size, 1), np.float32)
    mask[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = 1.0
    soft = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.5, 4.0)))[:, :, None]
    mask = np.maximum(soft, mask * (soft > 0.5))
    return (crop * (1.0 - mask) + paint * mask).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class ColourDraw:
    """Colour changes of one pair, drawn with the sample so that they are reproducible.

    Attributes:
        values: (3, 3) float32: brightness, contrast, saturation factor of template, search crop
            and second template.
        grey: All crops lose their colour.
    """

    values: np.ndarray
    grey: bool


def draw_colour(config: AugmentConfig, rng: np.random.Generator) -> ColourDraw:
    """Draw the colour change of one pair."""
    spread = np.array([config.brightness, config.contrast, config.saturation], np.float32)
    values = 1.0 + spread * rng.uniform(-1, 1, (3, 3)).astype(np.float32)
    return ColourDraw(values, bool(rng.random() < config.grey))


def apply_colour(crops: torch.Tensor, factors: torch.Tensor, grey: torch.Tensor) -> torch.Tensor:
    """Apply colour changes to a batch.

    Args:
        crops: (B, 3, S, S) float in [0, 255].
        factors: (B, 3) brightness, contrast, saturation.
        grey: (B,) bool.

    Returns:
        (B, 3, S, S) float in [0, 255].
    """
    brightness, contrast, saturation = (f.view(-1, 1, 1, 1) for f in factors.unbind(1))
    red, green, blue = crops.split(1, 1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    saturation = saturation * (~grey).view(-1, 1, 1, 1)
    mean = luma.mean((2, 3), keepdim=True)
    crops = luma + (crops - luma) * saturation
    return ((mean + (crops - mean) * contrast) * brightness).clamp(0, 255)
