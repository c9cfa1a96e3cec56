#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the README's animation from what `make demo` recorded.

    make demo
    python scripts/demo_gif.py demo_output/tracked.mp4 docs/images/demo.gif

Every second frame, in few colours and without dithering, because noise makes a GIF large. The
first frame stays for a second, so that the target can be seen before it is hidden. Needs Pillow,
which `make train-setup` brings.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from vt_models.video.drawing import STATE_COLOURS
from vt_models.video.sources import VideoFile

STRIDE = 2
FIRST_MS = 1000
COLOURS = 80


def write_gif(video: VideoFile, path: Path) -> None:
    """Write every second frame of a video as an animated GIF that repeats for ever."""
    # The filter takes the noise out of areas and leaves the edges, letters among them.
    frames = [cv2.bilateralFilter(frame, 5, 18, 3) for frame in list(video)[::STRIDE]]
    samples = Image.fromarray(np.concatenate([frame[::2, ::2] for frame in frames[::3]]))
    colours = samples.quantize(COLOURS - len(STATE_COLOURS), kmeans=2).getpalette()
    palette = Image.new("P", (1, 1))
    # Few pixels have a state's colour, but they are what the animation is about.
    palette.putpalette([*(colours or []), *np.ravel(list(STATE_COLOURS.values())).tolist()])
    indexed = [
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
        for frame in frames
    ]
    shown_ms = [FIRST_MS] + [round(1000 * STRIDE / video.fps)] * (len(indexed) - 1)
    indexed[0].save(path, save_all=True, append_images=indexed[1:], duration=shown_ms, loop=0)


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path, help="demo_output/tracked.mp4")
    parser.add_argument("gif", type=Path, help="the file to write")
    arguments = parser.parse_args()
    write_gif(VideoFile(arguments.video), arguments.gif)
    print(f"{arguments.gif}: {arguments.gif.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
