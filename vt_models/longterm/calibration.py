# SPDX-License-Identifier: Apache-2.0
"""From a network's score to P(IoU >= 0.5), and from its maps to a calibrated covariance.

A calibration is a handful of numbers per model, fitted by `vt-models calibrate` and kept in the
entry `calibration` of model.json:

    {"version": 1, "weight": 1.3, "similarity": 3.8, "bias": -0.7, "covariance_scale": 4.0,
     "position_floor": 0.05, "size_floor": 0.1, "fitted": {...where from, how good...}}

Entries written before "similarity" and "covariance_scale" had these names call them "likeness" and
"spread_scale"; they are read all the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vt_models.errors import WeightsError
from vt_models.geometry.boxes import Box

VERSION = 1
_OLD_KEYS = {"similarity": "likeness", "covariance_scale": "spread_scale"}
_SCORE_LIMIT = 1e-3
# A hundred times what was ever fitted: beyond, products with pixels overflow and nothing warns.
_MOST = 1e3


@dataclass(frozen=True, slots=True)
class Calibration:
    """Logistic calibration of score and appearance similarity (Platt 1999), and of a covariance.

    Attributes:
        weight, similarity, bias: P(IoU >= 0.5) = sigmoid(weight * logit(score) + similarity * a +
            bias), where a in [-1, 1] is the appearance similarity of the box and the target (see
            `vt_models.longterm.appearance`): the network alone follows whatever takes its place.
        covariance_scale: multiplies the box covariance from the score map.
        position_floor, size_floor: standard deviations that are added in quadrature to centre and
            size, in mean box sides; they are the whole covariance where the network has no maps.
        is_fitted: False for the default, which takes the score as it is.
    """

    weight: float = 1.0
    similarity: float = 0.0
    bias: float = 0.0
    covariance_scale: float = 4.0
    position_floor: float = 0.06
    size_floor: float = 0.12
    is_fitted: bool = False

    def confidence(self, score: float, similarity: float) -> float:
        """Compute P(IoU >= 0.5) in [0, 1].

        Args:
            score: the network's, in [0, 1]; 0 or not finite gives 0.
            similarity: appearance similarity of the box and the target, in [-1, 1].
        """
        if not score > 0.0:
            return 0.0
        value = self.weight * logit(score) + self.similarity * similarity + self.bias
        return 1.0 / (1.0 + math.exp(-min(max(value, -60.0), 60.0)))

    def covariance(
        self, box: Box, map_covariance: NDArray[np.float64] | None, confidence: float
    ) -> NDArray[np.float64]:
        """Compute the (4, 4) covariance of centre x, centre y, width, height, pixels squared.

        C = covariance_scale * map_covariance + s^2 * diag(p^2, p^2, q^2, q^2) / max(confidence,
        0.1), with s^2 = w * h, p = position_floor and q = size_floor.

        Args:
            box: x, y, w, h in pixels.
            map_covariance: (4, 4) from `vt_models.tracker.decoders.box_covariance`, None where the
                network has no maps.
            confidence: calibrated, in [0, 1].
        """
        area = max(box[2] * box[3], 1.0)
        position, size = area * self.position_floor**2, area * self.size_floor**2
        floor = np.diag((position, position, size, size)) / max(confidence, 0.1)
        return floor if map_covariance is None else floor + self.covariance_scale * map_covariance

    def to_entry(self) -> dict[str, float]:
        """Return the entry of model.json, without `fitted`."""
        return {
            "version": VERSION,
            "weight": self.weight,
            "similarity": self.similarity,
            "bias": self.bias,
            "covariance_scale": self.covariance_scale,
            "position_floor": self.position_floor,
            "size_floor": self.size_floor,
        }


UNCALIBRATED = Calibration()
"""Calibration that takes the score as it is."""


def read_calibration(entry: Mapping[str, Any] | None) -> Calibration:
    """Read the calibration of a model.json's entry; `UNCALIBRATED` where there is none.

    Raises:
        WeightsError: another version, a missing number or one out of range.
    """
    if entry is None:
        return UNCALIBRATED
    if not hasattr(entry, "get") or entry.get("version") != VERSION:
        raise WeightsError(
            f"calibration {entry!r:.200} is not of version {VERSION}; "
            "run `vt-models calibrate` again"
        )
    names = [name for name in Calibration().to_entry() if name != "version"]
    try:
        values = {
            name: float(entry[name] if name in entry else entry[_OLD_KEYS.get(name, name)])
            for name in names
        }
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise WeightsError(
            f"calibration lacks a usable number ({error!r:.200}); run `vt-models calibrate` again"
        ) from error
    floors = (values["position_floor"], values["size_floor"])
    usable = values["weight"] > 0 and values["covariance_scale"] >= 0 and min(floors) > 1e-6
    if not (all(abs(value) <= _MOST for value in values.values()) and usable):  # nan is not
        raise WeightsError(
            f"calibration {values} has a number out of range; run `vt-models calibrate` again"
        )
    return Calibration(**values, is_fitted=True)


def logit(score: float) -> float:
    """Compute log(s / (1 - s)) with s held within [0.001, 0.999]."""
    score = min(max(score, _SCORE_LIMIT), 1.0 - _SCORE_LIMIT)
    return math.log(score / (1.0 - score))
