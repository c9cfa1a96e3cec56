# SPDX-License-Identifier: Apache-2.0
"""Every setting of a training run; a recipe (`training.recipe.loader`) gives their values.

The type of a setting says which values it may have; a number is 0 or more in any case.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

from vt_models.nets.builders import find_spec
from vt_models.registry import ModelSpec
from vt_models.settings import Fraction, PositiveFloat, PositiveInt

Pretrained: TypeAlias = Literal[
    "none", "imagenet", "nanotrack", "mae", "resnet", "pvt_v2", "efficientmod"
]

MAX_COVER = 0.35
"""Targets that cover more of their image leave hardly any surroundings to search in: a search
region is 16 times the target's area."""


@dataclass(frozen=True)
class SamplingConfig:
    """Where pairs come from.

    Attributes:
        clip_share: Weight of pairs from two frames of one track.
        still_share: Weight of pairs from two views of one annotated still image.
        region_share: Weight of pairs from two views of an arbitrary image region.
        negative_share: Fraction of all pairs whose search view does not show the target.
        lookalike_share: Fraction of those that show another object of the same class name.
        hidden_share: Fraction of those that show a frame of the same video in which the target is
            hidden or out of view, where the video has such frames (STARK's second stage: 1).
        min_side: Targets with a shorter side, in pixels, are not drawn.
        max_cover: Targets that cover this share of their image or more are not drawn either (of
            still images and image packs); 1 for all.
        hold_out: Videos that are not drawn from (of an image pack the `source` of their frames):
            they are left to judge by.
        max_gap: Largest distance between the two frames of a track, in frames of the video.
        order: "any"; "causal": the search frame is later than the template (AsymTrack, SBT,
            STARK-S); or "trident": template and search frame lie anywhere in the video, and a
            second template within `max_gap` of the search frame (STARK-ST, ProContEXT).
        text_dropout: Fraction of the pairs of a language model that come without their text.
        template_dropout: Fraction of all samples of a language model that come without a template:
            it shows the mean colour only, and the search region is a window in which a text alone
            says what to find (see `vt_models.training.data.text_queries`).
    """

    clip_share: float = 0.5
    still_share: float = 0.5
    region_share: float = 0.0
    negative_share: Fraction = 0.0
    lookalike_share: Fraction = 0.0
    hidden_share: Fraction = 0.0
    min_side: float = 6.0
    max_cover: Fraction = MAX_COVER
    hold_out: tuple[str, ...] = ()
    max_gap: int = 200
    order: Literal["any", "causal", "trident"] = "any"
    text_dropout: Fraction = 0.0
    template_dropout: Fraction = 0.0


@dataclass(frozen=True)
class AugmentConfig:
    """How a crop differs from the plain one. Shifts and scales follow the authors' rule.

    Attributes:
        template_centre, template_scale: Jitter of the template box (authors: 0, 0).
        search_centre, search_scale: Jitter of the search crop (authors: 3.5, 0.5).
        search_shift: How its shifts are distributed: "uniform", as published, or
            "laplace" with the same mean.
        joint_flip: Probability that both crops are mirrored.
        crop_flip: Probability, for each crop by itself, that it is mirrored.
        grey: Probability that both crops lose their colour.
        brightness, contrast, saturation: Each crop is scaled by 1 +- this.
        rotation_deg: Largest in-plane rotation of the search crop.
        spin: Probability that the search crop is rotated by up to 90 degrees instead.
        aspect: Largest natural-log change of the aspect ratio of the search crop.
        blur: Probability that the search crop is blurred as by motion.
        template_blur: Probability that the template is blurred likewise.
        small: Probability that both crops are coarsened as if the target were small in its video
            (a mean side of 5 to 24 pixels), half of them with the traces of compression.
        distractor: Probability that another object of the target's class (of any, where there is
            no other) is pasted beside the target.
        transplant: Probability that the target is pasted over such an object in another scene,
            which becomes the search crop.
        occlusion: Probability that a part of the target is covered by a foreign patch.
        erase: Probability that the target is painted over, which makes the pair a negative one.
        foreign_border: Probability that what lies outside the image is filled with another image
            instead of black.
        search_sizes: Smallest and largest side of a batch's search crops in pixels, multiples of
            16 between which each batch draws its own; () for the model's. A target keeps the pixels
            it has at the model's size, so that a smaller crop shows less of its surroundings.
    """

    template_centre: float = 0.0
    template_scale: float = 0.0
    search_centre: float = 3.5
    search_scale: float = 0.5
    search_shift: Literal["uniform", "laplace"] = "uniform"
    joint_flip: Fraction = 0.5
    crop_flip: Fraction = 0.5
    grey: Fraction = 0.05
    brightness: float = 0.2
    contrast: float = 0.0
    saturation: float = 0.0
    rotation_deg: float = 0.0
    spin: Fraction = 0.0
    aspect: float = 0.0
    blur: Fraction = 0.0
    template_blur: Fraction = 0.0
    small: Fraction = 0.0
    distractor: Fraction = 0.0
    transplant: Fraction = 0.0
    occlusion: Fraction = 0.0
    erase: Fraction = 0.0
    foreign_border: Fraction = 0.0
    search_sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class OptimConfig:
    """AdamW and its schedule, counted in samples so that the batch size may change.

    Attributes:
        samples: Pairs to train on in total.
        batch_size: Pairs a step, over all processes.
        accumulate: Parts that each process cuts its share of a batch into, one after the other on
            the device: the numbers of the whole batch (but for batch norms) in less memory.
        lr: Peak learning rate of everything but the backbone.
        backbone_lr_factor: The backbone's rate as a fraction of `lr`; 0 freezes it.
        backbone: Prefixes of the names of the parameters that count as the backbone.
        backbone_freeze_samples: The backbone stays frozen for this many first pairs.
        frozen: Prefixes of parameter names that never learn.
        only: Prefixes of the names of the parameters that learn; () for all but the frozen ones.
        weight_decay: Decoupled weight decay; not applied to norms and biases.
        grad_clip: Largest gradient norm.
        warmup_samples: Linear warm-up.
        decay_start: Fraction of `samples` after which the rate decays.
        decay: "step" (x 0.1 at once, the authors') or "linear" (to 1 % at the end).
        decay_again: Fraction of `samples` after which a step is followed by another; 1: by none.
        ema: Decay of the moving average of the weights, 0 for none.
        precision: "fp32" or "bf16" (autocast; fp32 master weights).
        grad_checkpointing: The blocks of a vision transformer (ProContEXT, PJVLT) are computed
            again in the backward pass instead of kept: less memory, about a third more time.
        compile: torch.compile; where that fails, training goes on without it and says so.
    """

    samples: PositiveInt = 60000
    batch_size: PositiveInt = 32
    accumulate: PositiveInt = 1
    lr: PositiveFloat = 4e-4
    backbone_lr_factor: float = 0.1
    backbone: tuple[str, ...] = ("backbone.",)
    backbone_freeze_samples: int = 0
    frozen: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    weight_decay: float = 1e-4
    grad_clip: PositiveFloat = 0.1
    warmup_samples: int = 0
    decay_start: Fraction = 0.8
    decay: Literal["step", "linear"] = "step"
    decay_again: Fraction = 1.0
    ema: Fraction = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"
    grad_checkpointing: bool = False
    compile: bool = False


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms (see `vt_models.training.losses.families`).

    Attributes:
        giou, l1: Weights of the box terms.
        score: Weight of the score map of a head that scores each cell.
        background: Weight of a background cell relative to a target cell in SBT's cross entropy.
        presence: Weight of STARK-ST's score head, which says whether the target is in the search
            crop.
        corner: Weight of `corner_loss` on the corner maps of AsymTrack and STARK; 0, as published,
            turns it off.
        matching: Weight of `losses.alignment.matching_loss` on AsymTrack's attention to the
            template; 0, as published, turns it off.
        box_cell: Cell whose box a centre head's loss judges: "peak", the one with the highest
            score, as published, or "target", the highest among the target's cells. While scores are
            still wrong, "peak" teaches boxes to cells that show something else.
        alignment: Weight of `vt_models.training.losses.alignment`, of PJVLT's patches with their
            texts; 0 turns it off.
        teacher: Weight of `vt_models.training.distillation.teacher`, by which AsymTrack-Lite learns
            what NanoTrack v3 says of the same crops; 0 turns it off. The teacher's weights come
            with `--teacher-weights`.
    """

    giou: float = 2.0
    l1: float = 5.0
    score: float = 1.0
    background: float = 0.0625
    presence: float = 0.0
    corner: float = 0.0
    matching: float = 0.0
    box_cell: Literal["peak", "target"] = "peak"
    alignment: float = 0.0
    teacher: float = 0.0


@dataclass(frozen=True)
class PruningConfig:
    """Schedule of ProContEXT's keep ratio: 1, then half a cosine down to the network's own.

    Attributes:
        start: Pairs before the first candidate is dropped.
        length: Pairs until the final ratio is reached; 0 for the final ratio from the start on.
    """

    start: int = 0
    length: int = 0


@dataclass(frozen=True)
class SourceConfig:
    """Data to draw pairs from.

    Attributes:
        kind: "pack" (an image pack), "images" (a folder of images without labels, which give pairs
            of regions), "videos" (annotated video files, decoded once into a cache), or another
            dataset (`vt_models.datasets`).
        name: What `--data NAME=DIR` and messages call it; the kind unless told.
        root: Its folder, where `--data` says nothing; may hold $VARIABLES.
        split: Split of a dataset; its training split unless told.
        only: File with the names of the videos to use, one a line, or their numbers in the split
            (from 0); seen from the root. All of them unless told.
        weight: How often it is drawn from, relative to the other sources.
        match: Patterns such as "drone_*"; only videos whose name fits one of them are drawn from.
            Of an image pack the names are the `source` of its clips; still images always stay.
        skip: Patterns of the names of videos that are not drawn from.
        max_gap: Replaces `sampling.max_gap` for this source; 0 keeps that.
        max_cover: Replaces `sampling.max_cover` for this source; 0 keeps that.
        without_text: Train a language model on this source although no target in it has a text;
            without this such a source is refused.
        in_memory: An image pack is decoded once into memory, which is fast. Otherwise, and always
            for datasets, an image is read when it is drawn.
    """

    kind: str = "pack"
    name: str = ""
    root: str = ""
    split: str = ""
    only: str = ""
    match: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    weight: float = 1.0
    max_gap: int = 0
    max_cover: Fraction = 0.0
    without_text: bool = False
    in_memory: bool = True

    @property
    def called(self) -> str:
        """What messages and `--data` call it."""
        return self.name or self.kind


@dataclass(frozen=True)
class Recipe:
    """A complete training run.

    Attributes:
        model: Name in the registry.
        net: Settings of the network that differ from the model's, such as `fusion: {ccpil: false}`:
            fields of the configuration of its family (`vt_models.nets`).
        pretrained: The published weights that the backbone starts from: "imagenet" (EfficientNet-
            Lite0, which a package brings), "nanotrack", "mae", "resnet", "pvt_v2" or "efficientmod"
            (whose file is `--backbone-weights`), or "none".
        seed: Seed of weights, pairs and augmentation.
        checkpoint_every: Pairs between checkpoints.
        validate_every: Pairs between validations on sequences (0: never).
        validation: A list of videos (`vt_models.datasets.video_list`) to judge by, seen from the
            recipe that names it, with `--set` from the working directory. No source draws from a
            video in it; `--validate-on` runs those that it marks with "validate".
        sources: Where the data come from; one image pack unless told.
    """

    model: str
    net: dict[str, Any] = field(default_factory=dict)
    pretrained: Pretrained = "none"
    seed: int = 0
    checkpoint_every: PositiveInt = 3200
    validate_every: int = 0
    validation: str = ""
    sources: tuple[SourceConfig, ...] = (SourceConfig(),)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    pruning: PruningConfig = field(default_factory=PruningConfig)

    @cached_property
    def spec(self) -> ModelSpec:
        """Specification of the model with the network that `net` describes."""
        return find_spec(self.model, self.net)


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as plain data, for checkpoints and model cards."""
    return dataclasses.asdict(recipe)
