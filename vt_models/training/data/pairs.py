# SPDX-License-Identifier: Apache-2.0
"""From a sample's number to its crops, label and text: what one training pair is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from vt_models.registry import SEARCH_SIZE_STEP, ModelSpec
from vt_models.training.data.augmentation import (
    Box,
    ColourDraw,
    View,
    box_in_view,
    crop_view,
    draw_colour,
    erase,
    jittered_view,
    lower_resolution,
    motion_blur,
    occlude,
    outside_image,
)
from vt_models.training.data.descriptions import Words
from vt_models.training.data.lookalikes import add_distractor, cut_object, transplant
from vt_models.training.data.phrases import Phrases, colour_of
from vt_models.training.data.sampling import Pair, PairSampler
from vt_models.training.data.targets import Target, TrainingData
from vt_models.training.data.text_queries import NamedObjects, TextQuery, window_around
from vt_models.training.recipe.settings import Recipe

Sample = dict[str, np.ndarray]
LABEL_ATTEMPTS = 10
VIEW_ATTEMPTS = 20
SMALL_PX = (5.0, 24.0)
"""Mean side of a target that is made small, pixels of its video."""
_OF_BATCHES = 1
"""Tells the random streams of batches from those of samples."""


@dataclass
class CropSample:
    """What was cut out of an image for one template or the search region.

    Attributes:
        crops: (S, S, 3) uint8 each, one a view.
        box: (4,) float32 cxcywh of the target, fractions of the first crop.
        outside: (S, S) bool, where the first crop shows nothing of its image.
        present: The target is in it.
    """

    crops: list[np.ndarray]
    box: np.ndarray
    outside: np.ndarray
    present: bool = True


class PairDataset(Dataset[Sample]):
    """Sample number -> the crops of one pair. The same number always gives the same crops.

    With `augment.search_sizes` the size of the search crop is drawn for each batch, by its number
    (that of its first sample over the batch size); nothing else depends on it.

    A sample has `box` (4,) cxcywh, `present`, `shown` (the box (4,) cxcywh in the template, zeros
    where that shows nothing), `colour` and `grey` (see `ColourDraw`), and the inputs of the network
    by their names (`ModelSpec.forward_inputs`), images as uint8 (S, S, 3) or, where the model has
    several views of a template, (V, S, S, 3).
    """

    def __init__(self, data: TrainingData, spec: ModelSpec, recipe: Recipe) -> None:
        self._images = data.images
        self._spec = spec
        self._config = recipe.augment
        self._seed, self._batch_size = recipe.seed, recipe.optim.batch_size
        self._text_dropout = recipe.sampling.text_dropout
        self._template_dropout = recipe.sampling.template_dropout
        self._sampler = PairSampler(data, recipe.sampling, recipe.seed, spec.dynamic_template)
        self._words = Words(data.sources, spec) if spec.language else None
        self._described = self._by_name(data)

    def __getitem__(self, number: int) -> Sample:
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: list[int]) -> list[Sample]:
        """Return the samples of one batch, or of a part of it: their search crops have one size."""
        spec = self._spec_of(numbers[0])
        return [self._sample(number, spec) for number in numbers]

    def _spec_of(self, number: int) -> ModelSpec:
        """Return the model at the search size that is drawn for the batch of a sample."""
        if not self._config.search_sizes:
            return self._spec
        low, high = self._config.search_sizes
        batch = number // self._batch_size
        rng = np.random.default_rng([self._seed, batch, _OF_BATCHES])
        steps = rng.integers(low // SEARCH_SIZE_STEP, high // SEARCH_SIZE_STEP + 1)
        return self._spec.at_search_size(SEARCH_SIZE_STEP * int(steps))

    def _sample(self, number: int, spec: ModelSpec) -> Sample:
        rng = self._sampler.rng(number)
        if self._described is not None and rng.random() < self._template_dropout:
            return self._by_words(*self._described, rng)
        return self._by_template(spec, rng)

    def _by_name(self, data: TrainingData) -> tuple[NamedObjects, Phrases] | None:
        """Return what a text alone may mean, if the recipe asks for that and there are names."""
        if self._template_dropout == 0:
            return None
        named = NamedObjects(data.sources)
        return (named, Phrases(named.texts, self._spec)) if len(named) else None

    def _by_template(self, spec: ModelSpec, rng: np.random.Generator) -> Sample:
        pair = self._sampler.draw(rng)
        flip = bool(rng.random() < self._config.joint_flip)
        template = self._template(pair.template, flip, rng)
        search = self._search(pair, flip, spec, rng)
        crop_samples = {"template": template, "search": search}
        if self._spec.dynamic_template:
            crop_samples["dynamic"] = self._template(pair.dynamic, flip, rng)
        self._degrade(crop_samples, rng)
        colour = draw_colour(self._config, rng)
        sample = {name: _stacked(crop_sample.crops) for name, crop_sample in crop_samples.items()}
        sample |= {
            f"{name}_mask": crop_sample.outside for name, crop_sample in crop_samples.items()
        }
        cx, cy, w, h = sample["shown"] = template.box
        sample["template_box"] = np.array([cx - w / 2, cy - h / 2, w, h], np.float32)
        if self._words is not None:
            words = self._words.of(pair.template, self._text_dropout, rng)
            sample["text_ids"], sample["text_mask"] = words
        return self._finished(sample, search.box, search.present, colour)

    def _by_words(self, named: NamedObjects, phrases: Phrases, rng: np.random.Generator) -> Sample:
        """Make a sample in which a text says what to find; its template is the mean colour."""
        query, view, box = self._described_view(named, rng)
        image, size, spec = self._images[query.target.image], self._spec.search_size, self._spec
        surroundings = self._any_image(rng) if rng.random() < self._config.foreign_border else None
        crop = crop_view(image, view, size, surroundings)
        if rng.random() < self._config.blur:
            crop = motion_blur(crop, rng)
        colour = draw_colour(self._config, rng)
        name = "" if colour.grey or not query.present else colour_of(image, query.target.box)
        ids, mask = phrases.of(query.text, name, rng)
        nothing = np.empty((spec.template_size, spec.template_size, 3), np.uint8)
        nothing[...] = np.round(255.0 * np.array(spec.mean))
        sample = {
            "template": _stacked([nothing] * len(spec.view_factors)),
            "shown": np.zeros(4, np.float32),
            "search": crop,
            "text_ids": ids,
            "text_mask": mask,
        }
        return self._finished(sample, box, query.present, colour)

    def _described_view(
        self, named: NamedObjects, rng: np.random.Generator
    ) -> tuple[TextQuery, View, np.ndarray]:
        """Draw a text and a view in which it is clear; after many tries, whatever came last."""
        for _ in range(VIEW_ATTEMPTS):
            query = named.draw(rng)
            mirrored = self._mirror(bool(rng.random() < self._config.joint_flip), rng)
            target, turn = query.target, self._config.rotation_deg / 2
            view = window_around(target.box, self._images[target.image].shape, mirrored, turn, rng)
            if named.is_clear(query, view):
                break
        return query, view, box_in_view(target.box, view)

    def _finished(
        self, sample: Sample, box: np.ndarray, present: bool, colour: ColourDraw
    ) -> Sample:
        """Return the network's inputs, the label, and how the colours of the crops change."""
        inputs = {name: sample[name] for name in self._spec.forward_inputs}
        label = {"box": box, "present": np.array(present), "shown": sample["shown"]}
        return inputs | label | {"colour": colour.values, "grey": np.array(colour.grey)}

    def _mirror(self, joint: bool, rng: np.random.Generator) -> bool:
        return joint ^ bool(rng.random() < self._config.crop_flip)

    def _template(self, target: Target, flip: bool, rng: np.random.Generator) -> CropSample:
        config, spec = self._config, self._spec
        image = self._images[target.image]
        drawn = jittered_view(
            target.box, spec.template_factor, config.template_centre, config.template_scale, rng
        )
        mirrored = self._mirror(flip, rng)
        sides = [drawn.side * factor / spec.template_factor for factor in spec.view_factors]
        views = [View(drawn.centre, side, mirrored=mirrored) for side in sides]
        crops = [crop_view(image, view, spec.template_size) for view in views]
        outside = self._outside(image, views[0], spec.template_size)
        return CropSample(crops, box_in_view(target.box, views[0]), outside)

    def _search(
        self, pair: Pair, flip: bool, spec: ModelSpec, rng: np.random.Generator
    ) -> CropSample:
        config, size = self._config, spec.search_size
        shown, present, moved = pair.search, pair.present, False
        if present and rng.random() < config.transplant:
            elsewhere = self._sampler.lookalike(pair.search, rng)
            shown, moved = elsewhere or shown, elsewhere is not None
        image = self._images[shown.image]
        mirrored = self._mirror(flip, rng)
        view, box = self._search_view(shown.box, spec.search_factor, mirrored, rng)
        surroundings = self._any_image(rng) if rng.random() < config.foreign_border else None
        crop = crop_view(image, view, size, surroundings)
        if moved:
            box = transplant(crop, box, self._patch(pair.search, view.mirrored), rng)
        if rng.random() < config.distractor:
            other = self._sampler.lookalike(pair.search, rng)
            if other is not None:
                crop = add_distractor(crop, box, self._patch(other, False), rng)
        if present and rng.random() < config.occlusion:
            crop = occlude(crop, box, self._any_image(rng), rng)
        if present and rng.random() < config.erase:
            crop, present = erase(crop, box, self._any_image(rng), rng), False
        if rng.random() < config.blur:
            crop = motion_blur(crop, rng)
        return CropSample([crop], box, self._outside(image, view, size), present)

    def _degrade(self, crop_samples: dict[str, CropSample], rng: np.random.Generator) -> None:
        """Blur templates, and make the target of all crops small, in place."""
        for name, crop_sample in crop_samples.items():
            if name != "search" and rng.random() < self._config.template_blur:
                crop_sample.crops = [motion_blur(crop, rng) for crop in crop_sample.crops]
        if rng.random() < self._config.small:
            low, high = np.log(SMALL_PX)
            wanted = float(np.exp(rng.uniform(low, high)))
            for crop_sample in crop_samples.values():
                self._coarsen(crop_sample, wanted, rng)

    def _coarsen(self, crop_sample: CropSample, wanted: float, rng: np.random.Generator) -> None:
        """Show the target with about `wanted` pixels; half of the crops look compressed."""
        quality = int(rng.integers(35, 95)) if rng.random() < 0.5 else 100
        wanted *= float(np.exp(rng.standard_normal() * 0.15))
        side = crop_sample.crops[0].shape[0] * float(
            np.sqrt(crop_sample.box[2] * crop_sample.box[3])
        )
        shrink = [1.0, *(self._spec.template_factor / f for f in self._spec.context_factors)]
        crop_sample.crops = [
            lower_resolution(crop, side * scale, wanted, quality)
            for crop, scale in zip(crop_sample.crops, shrink, strict=False)
        ]

    def _outside(self, image: np.ndarray, view: View, size: int) -> np.ndarray:
        """Return the padding mask, for models that read one."""
        if "search_mask" not in self._spec.forward_inputs:
            return np.zeros((0, 0), np.bool_)
        return outside_image(image.shape, view, size)

    def _patch(self, target: Target, mirrored: bool) -> np.ndarray:
        patch = cut_object(self._images[target.image], target)
        return patch[:, ::-1] if mirrored else patch

    def _any_image(self, rng: np.random.Generator) -> np.ndarray:
        return self._images[int(rng.integers(len(self._images)))]

    def _search_view(
        self, box: Box, factor: float, mirrored: bool, rng: np.random.Generator
    ) -> tuple[View, np.ndarray]:
        """Draw a random window, `factor` mean sides wide, that shows the middle of the target."""
        config = self._config
        for attempt in range(LABEL_ATTEMPTS):
            shrink = 1.0 - attempt / LABEL_ATTEMPTS
            view = jittered_view(
                box,
                factor,
                config.search_centre * shrink,
                config.search_scale,
                rng,
                config.search_shift,
            )
            aspect = float(np.exp(rng.uniform(-1, 1) * config.aspect))
            most = 90.0 if rng.random() < config.spin else config.rotation_deg
            angle = float(np.deg2rad(rng.uniform(-1, 1) * most))
            view = View(view.centre, view.side / aspect**0.5, aspect, angle, mirrored)
            label = box_in_view(box, view)
            if 0.02 < label[0] < 0.98 and 0.02 < label[1] < 0.98:
                break
        return view, label


def _stacked(crops: list[np.ndarray]) -> np.ndarray:
    """(S, S, 3) of one view, (V, S, S, 3) of several."""
    return crops[0] if len(crops) == 1 else np.stack(crops)
