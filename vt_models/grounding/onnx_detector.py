# SPDX-License-Identifier: Apache-2.0
"""An exported open-vocabulary detector in ONNX Runtime; needs no torch.

The directory is described in `vt_models.grounding.export_directory`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from vt_models.errors import BackendError, InputError, WeightsError
from vt_models.grounding.export_directory import (
    BUNDLED,
    GRAPH,
    INPUTS,
    OPTIONAL_INPUTS,
    OUTPUTS,
    TOKENIZER,
    DetectorExport,
    TextFormat,
    read_detector,
)
from vt_models.grounding.grounder import Cancelled, check_cancelled
from vt_models.grounding.names import check_known
from vt_models.grounding.results import Candidate, Frame
from vt_models.grounding.text import prompt_of
from vt_models.runtime.engine import check_device, check_threads
from vt_models.runtime.onnx_engine import import_onnxruntime, in_a_line, open_session
from vt_models.text import load_tokenizer, refused_panics

_MOST = 300  # boxes handed on: far more than survive the non-maximum suppression
_POLL = 0.02  # seconds between two looks at `cancelled` while the network runs
_MOST_SECONDS = 120.0  # for one image; the published detectors take some seconds on one core


class Placed(NamedTuple):
    """A frame on the canvas.

    Attributes:
        image: (H, W, 3) uint8, the canvas.
        size: (height, width) of the frame on it, in its top left corner.
    """

    image: NDArray[np.uint8]
    size: tuple[int, int]


def place(frame: Frame, canvas: tuple[int, int], padding: tuple[int, int, int]) -> Placed:
    """Scale a frame to fit a canvas (height, width), its proportions kept.

    Smaller by averaging (INTER_AREA), larger by interpolation (INTER_LINEAR).
    """
    height, width = frame.shape[:2]
    scale = min(canvas[0] / height, canvas[1] / width)
    size = tuple(
        min(max(round(side * scale), 1), most)
        for side, most in zip((height, width), canvas, strict=True)
    )
    method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
    image = np.empty((*canvas, 3), np.uint8)
    image[:] = padding
    scaled = cv2.resize(np.ascontiguousarray(frame), size[::-1], interpolation=method)
    image[: size[0], : size[1]] = scaled
    return Placed(image, (size[0], size[1]))


class PromptEncoder:
    """Descriptions to word pieces, as an exported detector wants them.

    Names of special tokens in a text, such as "[SEP]", are text like any other.

    Args:
        tokenizer: contents of a `tokenizer.json`.
        style: how a description is given.

    Raises:
        WeightsError: not a tokenizer.
        BackendError: the library `tokenizers` is missing.
    """

    def __init__(self, tokenizer: bytes, style: TextFormat) -> None:
        try:
            self._tokenizer = load_tokenizer(tokenizer)
        except WeightsError as error:
            raise WeightsError(f"{TOKENIZER}: {error}") from error
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._style = style
        self._ending = set(self._tokenizer.encode(style.ending).ids)

    def __call__(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Ids and mask, (1, L) each.

        Raises:
            InputError: more word pieces than the network reads, or none that it knows.
        """
        style = self._style
        prompt = prompt_of(text, style.lower_case, style.ending, style.separators)
        with refused_panics():
            encoding = self._tokenizer.encode(prompt)
        count, special = len(encoding.ids), sum(encoding.special_tokens_mask)
        if count > style.length:
            raise InputError(
                f"the text has {count - special} word pieces, this detector reads "
                f"{style.length - special}; describe the target in fewer words"
            )
        unknown = self._tokenizer.token_to_id(getattr(self._tokenizer.model, "unk_token", "") or "")
        if not set(encoding.ids) - self._ending - {unknown}:
            raise InputError(f"the detector knows no word of {prompt!r}; say it in English")
        ids = np.full((1, style.length), style.pad_id, np.int64)
        ids[0, :count] = encoding.ids
        return ids, np.arange(style.length)[None] < count


class OnnxDetector:
    """Runs an exported detector; see `vt_models.grounding.Detector`.

    Args:
        exported: the directory's contents; the graph's bytes (hundreds of MB) are not kept.
        device: "auto", "cpu", "cuda" or "tensorrt".
        threads: of the CPU provider; None is one.

    Raises:
        WeightsError: the graph does not have the documented inputs and outputs.
        BackendError: the device's provider is not active.
    """

    name = "onnx"

    def __init__(
        self, exported: DetectorExport, device: str = "auto", threads: int | None = None
    ) -> None:
        self.default_threshold = exported.default_threshold
        self.names_only = exported.names_only
        self._names = frozenset(exported.names)
        self._canvas, self._padding = exported.canvas, exported.padding
        self._encode = PromptEncoder(exported.files[TOKENIZER], exported.text)
        device, threads = check_device(device), check_threads(threads)
        self._session = open_session(exported.files[GRAPH], GRAPH, device, threads)
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        self._check_graph()

    def detect(self, frame: Frame, text: str, cancelled: Cancelled) -> list[Candidate]:
        """Boxes of the frame with their scores, the best few hundred; see `Detector.detect`."""
        check_known(text, self._names)
        ids, mask = self._encode(text)
        placed = place(frame, self._canvas, self._padding)
        inputs: dict[str, NDArray[Any]] = {
            "image": placed.image[None],
            "text_ids": ids,
            "text_mask": mask,
        }
        if "image_size" in self._inputs:
            inputs["image_size"] = np.array(placed.size, np.int64)
        scores, boxes = self._run(inputs, cancelled)
        order = np.argsort(-scores[0], kind="stable")[:_MOST]
        x, y = (self._canvas[axis] * frame.shape[axis] / placed.size[axis] for axis in (1, 0))
        in_frame = boxes[0, order].astype(np.float64) * np.array((x, y, x, y))
        return [
            Candidate((cx - 0.5 * w, cy - 0.5 * h, w, h), float(scores[0, index]), text)
            for index, (cx, cy, w, h) in zip(order, in_frame.tolist(), strict=True)
        ]

    def _run(
        self, inputs: dict[str, NDArray[Any]], cancelled: Cancelled
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        options = import_onnxruntime().RunOptions()
        options.log_severity_level = 4  # a run that was stopped is no news
        check_cancelled(cancelled)
        end = time.monotonic() + _MOST_SECONDS
        try:
            with _stopping(options, lambda: cancelled() or time.monotonic() > end):
                scores, boxes = self._session.run(list(OUTPUTS), inputs, options)
        except Exception as error:  # onnxruntime's exceptions share no narrower base
            check_cancelled(cancelled)
            if time.monotonic() > end:
                message = f"{GRAPH} did not end within {_MOST_SECONDS:g} s; use another detector"
                raise BackendError(message) from error
            raise BackendError(
                f"onnxruntime failed in {GRAPH}: {in_a_line(error)}; export the detector again"
            ) from error
        if scores.ndim != 2 or boxes.shape != (*scores.shape, 4):
            raise BackendError(
                f"{GRAPH} gave scores {scores.shape} and boxes {boxes.shape}; expected (1, N) and "
                "(1, N, 4)"
            )
        return scores, boxes

    def _check_graph(self) -> None:
        outputs = {entry.name for entry in self._session.get_outputs()}
        possible = {*INPUTS, *OPTIONAL_INPUTS}
        if not (set(INPUTS) <= self._inputs <= possible and set(OUTPUTS) <= outputs):
            raise WeightsError(
                f"{GRAPH} has the inputs {sorted(self._inputs)} and outputs {sorted(outputs)}; "
                f"expected {', '.join(INPUTS)} ({', '.join(OPTIONAL_INPUTS)} if it likes) and "
                f"{', '.join(OUTPUTS)}"
            )


def open_detector(source: str | Path | None, device: str, threads: int | None) -> OnnxDetector:
    """Load a directory made by `vt-models ground-export`, None for the bundled detector.

    Errors as those of `create_grounder`.
    """
    return OnnxDetector(read_detector(BUNDLED if source is None else source), device, threads)


@contextlib.contextmanager
def _stopping(options: Any, cancelled: Cancelled) -> Iterator[None]:
    """While a graph runs, stop it when `cancelled` turns true."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_POLL):
            if cancelled():
                options.terminate = True
                return

    watcher = threading.Thread(target=watch, name="grounding-watcher", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
