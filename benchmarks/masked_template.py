# SPDX-License-Identifier: Apache-2.0
"""Can a PJVLT find what words say when its template shows nothing? A small one, on drawn scenes.

    python -m benchmarks.masked_template --output benchmarks/results/masked_template.json

A network of PJVLT tiny's form with four narrow blocks learns, from nothing, to find one of three
coloured squares by "the red one", with the template of the mean colour that the grounding backend
gives it. Then that backend searches frames of another size. It says that the way works, nothing
about real images. See docs/grounding.md.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.result_file import measure_into
from vt_models.evaluation.provenance import command_line, provenance
from vt_models.geometry.boxes import iou
from vt_models.grounding import Grounder, GroundingSettings
from vt_models.grounding.pjvlt import PjvltDetector, neutral_frame
from vt_models.nets.graphs import Normalise
from vt_models.nets.pjvlt import Pjvlt, pjvlt_tiny_miniature
from vt_models.registry import get_spec
from vt_models.runtime.torch_engine import TorchEngine
from vt_models.text import Tokenizer
from vt_models.tracker.tracker import Tracker
from vt_models.training.losses.families import centre_loss
from vt_models.training.recipe.settings import LossConfig

if TYPE_CHECKING:
    from vt_models.geometry.boxes import Box

COLOURS = {"red": (220, 40, 40), "green": (40, 190, 60), "blue": (40, 70, 230)}
SPEC = get_spec("pjvlt_tiny")
BATCH = 8
LEARNING_RATE = 2e-3


class Scene(NamedTuple):
    """An image (H, W, 3) uint8, and the squares in it by their colours' names."""

    image: NDArray[np.uint8]
    boxes: dict[str, Box]


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 2 and one line on standard error where that is impossible."""
    parser = argparse.ArgumentParser(prog="benchmarks.masked_template", description=__doc__)
    add = parser.add_argument
    add("--steps", type=int, default=2000, help="of 8 scenes; default: %(default)s, 7 minutes")
    add("--frames", type=int, default=60, help="to search, 3 texts each; default: %(default)s")
    add("--seed", type=int, default=0, help="default: %(default)s")
    add("--output", type=Path, default=Path("benchmarks/results/local/masked_template.json"))
    args = parser.parse_args(arguments)
    return measure_into(args.output, lambda: _benchmark(args))


def draw(rng: np.random.Generator, shape: tuple[int, int], sides: tuple[int, int]) -> Scene:
    """Grey noise with a square of each colour; none hides another.

    Args:
        rng: source of all chance.
        shape: (H, W) of the image.
        sides: smallest and largest side of a square, pixels.
    """
    height, width = shape
    while True:
        image = rng.integers(70, 150, (height, width, 3)).astype(np.uint8)
        boxes: dict[str, Box] = {}
        for name, rgb in COLOURS.items():
            side = int(rng.integers(*sides))
            x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
            boxes[name] = (float(x), float(y), float(side), float(side))
            shade = np.clip(np.array(rgb) + rng.integers(-20, 20, 3), 0, 255)
            image[y : y + side, x : x + side] = shade
        if not np.triu(iou([*boxes.values()], np.array([*boxes.values()])[:, None]), 1).any():
            return Scene(image, boxes)


def train(steps: int, seed: int) -> Pjvlt:
    """A network that has seen `steps` batches, always with the masked template."""
    torch.manual_seed(seed)
    rng, chance = np.random.default_rng(seed), random.Random(seed)
    tiny = pjvlt_tiny_miniature().config
    config = replace(
        tiny,
        vision=replace(tiny.vision, dim=64),
        language=replace(tiny.language, dim=32, hidden=64, dropout=0.0),
        fusion=replace(tiny.fusion, blocks=(0, 1, 2, 3), latent=32),
    )
    net, normalise = Pjvlt(config).train(), Normalise(SPEC)
    words = {name: Tokenizer.uncased(SPEC.text_length)(f"the {name} one") for name in COLOURS}
    blank = neutral_frame(SPEC)[: SPEC.template_size, : SPEC.template_size]
    template = normalise(torch.from_numpy(blank)[None]).expand(BATCH, -1, -1, -1)
    optimiser = torch.optim.AdamW(net.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    size, everywhere = SPEC.search_size, torch.ones(BATCH, dtype=torch.bool)
    for _ in range(steps):
        scenes = [draw(rng, (size, size), (32, 96)) for _ in range(BATCH)]
        names = [chance.choice(list(COLOURS)) for _ in scenes]
        boxes = torch.tensor([s.boxes[name] for s, name in zip(scenes, names, strict=True)]) / size
        ids, masks = (np.stack(column) for column in zip(*(words[n] for n in names), strict=True))
        search = normalise(torch.from_numpy(np.stack([scene.image for scene in scenes])))
        outputs = net(template, search, torch.from_numpy(ids), torch.from_numpy(masks))
        centred = torch.cat((boxes[:, :2] + 0.5 * boxes[:, 2:], boxes[:, 2:]), 1)
        terms = centre_loss(outputs, centred, everywhere, LossConfig())
        optimiser.zero_grad()
        terms["total"].backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return net.eval()


def _benchmark(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    about, begin = provenance(command_line(), args.seed), time.perf_counter()
    net = train(args.steps, args.seed)
    seconds = time.perf_counter() - begin
    tracker = Tracker(SPEC, TorchEngine(net, SPEC, "cpu"), Tokenizer.uncased(SPEC.text_length))
    settings = GroundingSettings(threshold=0.0, ambiguity_margin=0.0)
    grounder = Grounder(PjvltDetector(tracker), settings)
    rng = np.random.default_rng(args.seed + 1)
    right = other = 0
    for _ in range(args.frames):
        scene = draw(rng, (200, 320), (40, 70))
        for name in scene.boxes:
            best = grounder.find(scene.image, f"the {name} one").best
            hit = [key for key, box in scene.boxes.items() if best and iou(best.box, box) >= 0.5]
            right += hit == [name]
            other += bool(hit) and hit != [name]
    texts = 3 * args.frames
    print(f"of {texts} texts {right} led to their square, {other} to another one")
    return {
        "benchmark": "masked_template",
        **about,
        "steps": args.steps,
        "training_seconds": seconds,
        "texts": texts,
        "right": right / texts,
        "another_square": other / texts,
    }


if __name__ == "__main__":
    sys.exit(main())
