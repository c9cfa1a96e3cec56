# SPDX-License-Identifier: Apache-2.0
"""Write values.json: what the packages `got10k` and `vot-toolkit` compute on made-up boxes.

They are no dependency of the tests: vot-toolkit asks for opencv-python, which overwrites the cv2 of
opencv-contrib-python-headless. In an environment of its own:

    python3.11 -m venv /tmp/toolkits
    /tmp/toolkits/bin/pip install "numpy>=2,<3" got10k==0.1.3 vot-toolkit==0.9.0 attributee==0.1.9
    /tmp/toolkits/bin/python test/vt_models/evaluation/metrics/toolkits/make.py
"""

from __future__ import annotations

import importlib.metadata
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from got10k.experiments.got10k import ExperimentGOT10k
from got10k.experiments.otb import ExperimentOTB
from got10k.experiments.uav123 import ExperimentUAV123
from got10k.utils.metrics import rect_iou
from vot.analysis import longterm, multistart, supervised
from vot.dataset import InMemorySequence
from vot.region import Rectangle, Special, calculate_overlap, calculate_overlaps
from vot.tracker import OnlineTrackerRuntime, RealtimeTrackerRuntime, Results, Trajectory
from vot.workspace.storage import LocalStorage

SIZE = (320, 240)
LOW, HIGH = 12, 50


def main() -> None:
    """Write the file beside this one."""
    rng = np.random.default_rng(20)
    values = {
        "versions": {
            name: importlib.metadata.version(name) for name in ("got10k", "vot-toolkit", "numpy")
        },
        "command": "python test/vt_models/evaluation/metrics/toolkits/make.py",
        "size": SIZE,
        "ope": one_pass(rng),
        "multistart": anchored(rng),
        "supervised": restarted(rng),
        "longterm": long_term(rng),
        "realtime": real_time(rng),
    }
    path = Path(__file__).with_name("values.json")
    path.write_text(json.dumps(values, separators=(",", ":")) + "\n", encoding="utf-8")


def walk(rng: np.random.Generator, count: int, spread: float) -> np.ndarray:
    """Boxes of a target that wanders, some of them partly outside the image."""
    steps = rng.normal(0.0, spread, (count, 4)) * (1.0, 1.0, 0.4, 0.4)
    boxes = np.array((120.0, 90.0, 50.0, 40.0)) + np.cumsum(steps, axis=0)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 8.0)
    return np.round(boxes, 3)


def followed(rng: np.random.Generator, truth: np.ndarray, drift: float) -> np.ndarray:
    """Boxes of a tracker that starts on the truth and drifts from it."""
    error = np.cumsum(rng.normal(0.0, drift, truth.shape), axis=0) * (1.0, 1.0, 0.5, 0.5)
    boxes = truth + error - error[0]
    boxes[:, 2:] = np.maximum(boxes[:, 2:], 3.0)
    return np.round(boxes, 3)


def one_pass(rng: np.random.Generator) -> dict:
    """got10k's own numbers: GOT-10k pooled over frames, OTB's curves, UAV123 with absent frames."""
    got, otb, uav = (
        kind.__new__(kind) for kind in (ExperimentGOT10k, ExperimentOTB, ExperimentUAV123)
    )
    otb.nbins_iou = uav.nbins_iou = 21
    otb.nbins_ce = uav.nbins_ce = 51
    sequences, pooled, absent_scores = [], [], []
    for name, count, drift in (("one", 60, 1.5), ("two", 35, 4.0), ("three", 48, 8.0)):
        truth = walk(rng, count, 4.0)
        predicted = followed(rng, truth, drift)
        cover = (rng.random(count) > 0.15).astype(int) * 5
        cover[0] = 8
        # The toolkit clips both arrays in place.
        overlaps = rect_iou(predicted[1:].copy(), truth[1:].copy(), bound=SIZE)[cover[1:] > 0]
        pooled.append(overlaps)
        ao, sr, speed, _ = got._evaluate(overlaps, np.array([0.1, 0.2]))
        success, precision = otb._calc_curves(*otb._calc_metrics(predicted, truth))
        with_nan = truth.copy()
        with_nan[cover == 0] = np.nan
        curves = uav._calc_curves(*uav._calc_metrics(predicted, with_nan))
        absent_scores.append((curves[0].mean(), curves[1][20]))
        sequences.append(
            {
                "name": name,
                "truth": truth.tolist(),
                "predicted": predicted.tolist(),
                "cover": cover.tolist(),
                "got10k": {"ao": ao, "sr50": sr, "fps": speed},
                "otb": {"success_curve": success.tolist(), "precision_curve": precision.tolist()},
                "uav123": {"success": absent_scores[-1][0], "precision": absent_scores[-1][1]},
            }
        )
    ao, sr, _, curve = got._evaluate(np.concatenate(pooled), np.array([]))
    means = np.mean(absent_scores, axis=0)
    total = {
        "got10k": {"ao": ao, "sr50": sr, "success_curve": curve.tolist()},
        "uav123": {"success": means[0], "precision": means[1]},
    }
    return {"sequences": sequences, "total": total}


class SizedSequence(InMemorySequence):
    """A sequence in memory that knows its size; version 0.9.0's does not."""

    size = SIZE


def sequence_of(name: str, truth: np.ndarray, anchors: dict[int, int]) -> InMemorySequence:
    """A VOT sequence without images' content."""
    sequence = SizedSequence(name, ["color"])
    image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    for index, box in enumerate(truth):
        values = {"anchor": anchors.get(index, 0)}
        sequence.append({"color": image}, Rectangle(*box), values=values)
    return sequence


def anchored(rng: np.random.Generator) -> dict:
    """vot-toolkit's accuracy, robustness and EAO of runs from anchors."""
    sequences, grid, partial = [], [], []
    curves = multistart.EAOCurves(high=HIGH)
    robustness = multistart.AccuracyRobustness()
    with tempfile.TemporaryDirectory() as folder:
        for name, count, drifts in (
            ("first", 60, (1.0, 6.0, 2.0)),
            ("second", 75, (3.0, 9.0, 5.0)),
        ):
            truth = walk(rng, count, 3.0)
            anchors = {0: 1, 20: 1, count - 1: -1}
            sequence = sequence_of(name, truth, anchors)
            storage = LocalStorage(str(Path(folder) / name))
            results = Results(storage)
            runs = []
            for (anchor, direction), drift in zip(anchors.items(), drifts, strict=True):
                order = range(anchor, count) if direction > 0 else range(anchor, -1, -1)
                predicted = followed(rng, truth[list(order)], drift)
                write(results, f"{name}_{anchor:08d}", predicted)
                seen = [Special(1)] + [Rectangle(*box) for box in predicted[1:]]
                world = [Rectangle(*truth[index]) for index in order]
                runs.append(
                    {
                        "anchor": anchor,
                        "direction": direction,
                        "predicted": predicted.tolist(),
                        "overlaps": calculate_overlaps(seen, world, SIZE),
                    }
                )
            experiment = SimpleNamespace(results=lambda _t, _s, r=results: r, anchor="anchor")
            grid.append(robustness.subcompute(experiment, None, sequence, []))
            partial.append(curves.subcompute(experiment, None, sequence, []))
            accuracy, robust = grid[-1][:2]
            sequences.append(
                {
                    "name": name,
                    "truth": truth.tolist(),
                    "runs": runs,
                    "accuracy": accuracy,
                    "robustness": robust,
                }
            )
    (curve,) = multistart.EAOCurve(high=HIGH).aggregate(None, [], partial)
    accuracy, robust = multistart.AverageAccuracyRobustness().aggregate(None, [], grid)[:2]
    total = {
        "accuracy": accuracy,
        "robustness": robust,
        "eao": float(np.mean(curve[LOW : HIGH + 1])),
        "curve": curve,
    }
    return {"low": LOW, "high": HIGH, "sequences": sequences, "total": total}


def restarted(rng: np.random.Generator) -> dict:
    """vot-toolkit's accuracy, failures and EAO of runs that are set back after a failure."""
    sequences, trajectories, grid = [], {}, []
    for name, count, drift in (("first", 60, 4.0), ("second", 75, 7.0)):
        truth = walk(rng, count, 3.0)
        regions, record = [], []
        predicted, start = truth, 0
        while len(regions) < count:
            index = len(regions)
            if index == start:
                predicted = followed(rng, truth[start:], drift)
                regions.append(Special(1))
                record.append([1])
                continue
            box = predicted[index - start]
            if calculate_overlap(Rectangle(*box), Rectangle(*truth[index]), SIZE) <= 0:
                regions.append(Special(2))
                record.append([2])
                start = index + 5
                missing = min(start, count) - len(regions)
                regions += [Special(0)] * missing
                record += [[0]] * missing
            else:
                regions.append(Rectangle(*box))
                record.append(box.tolist())
        sequence = sequence_of(name, truth, {})
        trajectories[sequence] = regions
        sequences.append({"name": name, "truth": truth.tolist(), "record": record})
    experiment = SimpleNamespace(
        gather=lambda _t, sequence: [SimpleNamespace(regions=lambda: trajectories[sequence])]
    )
    analysis = supervised.AccuracyRobustness()
    for sequence, about in zip(trajectories, sequences, strict=True):
        grid.append(analysis.subcompute(experiment, None, sequence, []))
        about["accuracy"], about["failures"] = grid[-1][:2]
    (curve,) = supervised.EAOCurve().subcompute(experiment, None, list(trajectories), [])
    accuracy, failures = supervised.AverageAccuracyRobustness().aggregate(None, [], grid)[:2]
    total = {
        "accuracy": accuracy,
        "failures": failures,
        "eao": float(np.mean(curve[LOW : HIGH + 1])),
        "curve": curve.tolist(),
    }
    return {"low": LOW, "high": HIGH, "sequences": sequences, "total": total}


def long_term(rng: np.random.Generator) -> dict:
    """vot-toolkit's precision, recall and F-score with absent targets and withheld boxes."""
    sequences, runs, everything = [], [], []
    for name, count, drift in (("first", 90, 2.0), ("second", 70, 5.0)):
        truth = walk(rng, count, 3.0)
        predicted = followed(rng, truth, drift)
        confidence = np.round(rng.random(count), 4)
        confidence[0] = np.nan
        absent, withheld = rng.random((2, count)) < 0.15
        absent[0] = False
        sequence = SizedSequence(name, ["color"])
        image = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        for box, gone in zip(truth, absent, strict=True):
            sequence.append({"color": image}, Special(0) if gone else Rectangle(*box))
        regions = [Special(1)] + [
            Special(0) if none else Rectangle(*box)
            for box, none in zip(predicted[1:], withheld[1:], strict=True)
        ]
        # Where nothing was predicted there is no confidence in it; the toolkit would count an empty
        # region as right where the target is absent.
        given = np.where(withheld, np.nan, confidence).tolist()
        everything += given
        runs.append((sequence, regions, given))
        sequences.append(
            {
                "name": name,
                "truth": truth.tolist(),
                "predicted": predicted.tolist(),
                "confidence": confidence[1:].tolist(),
                "absent": absent.tolist(),
                "withheld": withheld.tolist(),
            }
        )
    thresholds = longterm.determine_thresholds(everything, 100)
    partial = [
        (
            list(
                zip(*longterm.compute_tpr_curves(regions, given, sequence, thresholds), strict=True)
            ),
            0,
        )
        for sequence, regions, given in runs
    ]
    curve, _ = longterm.PrecisionRecallCurve().aggregate(None, [], partial)
    f_curve = longterm.FScoreCurve().compute(None, [None], [], [[(curve, thresholds)]])[0, 0][0]
    grids = [[(curve, thresholds)], [(f_curve, None)]]
    precision, recall, f_score = longterm.PrecisionRecall().compute(None, [None], [], grids)[0, 0]
    total = {"precision": precision, "recall": recall, "f_score": f_score}
    return {"sequences": sequences, "total": total, "thresholds": thresholds[1:-1]}


class TimedRuntime(OnlineTrackerRuntime):
    """Answers with the frame that it is given, after the time that it is told."""

    def __init__(self, seconds: list[float]) -> None:
        super().__init__(None)
        self.seconds = iter(seconds)

    def stop(self) -> None:
        """Has nothing to stop."""

    def restart(self) -> None:
        """Has nothing to start."""

    def initialize(self, frame: int, _new: object = None) -> tuple[int, float]:
        """Start on a frame."""
        return frame, next(self.seconds)

    def update(self, frame: int, _new: object = None) -> tuple[int, float]:
        """Look at a frame."""
        return frame, next(self.seconds)


def real_time(rng: np.random.Generator) -> dict:
    """Which frame's answer vot-toolkit's real-time experiment has in each frame."""
    interval, cases = 0.05, []
    for grace in (0, 1, 3):
        for scale in (0.03, 0.06, 0.15):
            # Exactly one and two periods are among them, where the comparisons turn.
            seconds = np.round(rng.exponential(scale, 40), 3)
            seconds[rng.integers(0, 12, 4)] = interval * rng.integers(1, 3, 4)
            runtime = RealtimeTrackerRuntime(TimedRuntime(seconds.tolist()), grace, interval)
            shown = [runtime.initialize(0)[0]]
            shown += [runtime.update(frame)[0] for frame in range(1, 40)]
            cases.append({"grace": grace, "seconds": seconds.tolist(), "shown": shown})
    return {"interval": interval, "cases": cases}


def write(results: Results, name: str, predicted: np.ndarray) -> None:
    """A trajectory as the toolkit stores it."""
    trajectory = Trajectory(len(predicted))
    trajectory.set(0, Special(Trajectory.INITIALIZATION))
    for index, box in enumerate(predicted[1:], start=1):
        trajectory.set(index, Rectangle(*box))
    trajectory.write(results, name)


if __name__ == "__main__":
    main()
