# SPDX-License-Identifier: Apache-2.0
"""Zero-shot object detectors of Hugging Face `transformers`: Grounding DINO and OWLv2.

Grounding DINO: Liu et al., ECCV 2024. OWLv2: Minderer et al., NeurIPS 2023. Both are loaded from a
checkpoint directory as `save_pretrained` writes it (config, safetensors, tokenizer, preprocessor);
images are prepared and outputs turned into boxes by the processor in that directory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vt_models.errors import BackendError, InputError, WeightsError, import_torch, install_hint
from vt_models.grounding.grounder import Cancelled, check_cancelled
from vt_models.grounding.results import Candidate, Frame, GroundingCancelledError
from vt_models.grounding.text import prompt_of
from vt_models.runtime.engine import check_device, check_threads

HUB = "hub:"
"""A source that begins so names a repository of the hub, which may be downloaded."""

_MOST = 300  # boxes handed on: far more than survive the non-maximum suppression


class Architecture(NamedTuple):
    """What differs between the architectures.

    Attributes:
        lower_case: the text is given in lower case.
        ending: what the text must end with.
        separators: characters that would cut the text into several descriptions.
        padded: the text is padded to the length that the network reads.
        labels: the processor tells which words a box belongs to.
        threshold: its authors' score threshold for boxes.
    """

    lower_case: bool
    ending: str
    separators: str
    padded: bool
    labels: bool
    threshold: float


ARCHITECTURES = {
    "grounding-dino": Architecture(
        lower_case=True, ending=".", separators=".?", padded=False, labels=True, threshold=0.3
    ),
    "owlv2": Architecture(
        lower_case=False, ending="", separators="", padded=True, labels=False, threshold=0.2
    ),
}


class ZeroShotDetector:
    """A detector of `transformers`; see `vt_models.grounding.Detector`.

    Args:
        model: the network, in evaluation mode, on its device.
        processor: of the same checkpoint.

    Raises:
        WeightsError: an architecture that is not in `ARCHITECTURES`.
    """

    name = "zero_shot"
    names_only = False

    def __init__(self, model: Any, processor: Any) -> None:
        kind = model.config.model_type
        if kind not in ARCHITECTURES:
            raise WeightsError(
                f"the checkpoint is a {kind!r}; this backend runs {', '.join(ARCHITECTURES)}"
            )
        self.model = model
        self.processor = processor
        processor.tokenizer.split_special_tokens = True  # "[SEP]" in a text is text like any other
        self.architecture = ARCHITECTURES[kind]
        self._torch = import_torch()

    @property
    def default_threshold(self) -> float:
        """The score threshold of the architecture's authors."""
        return self.architecture.threshold

    @property
    def text_length(self) -> int:
        """Word pieces that the network reads, the special ones included."""
        config = self.model.config
        limits = (
            getattr(config, "max_text_len", None),
            config.text_config.max_position_embeddings,
        )
        return min(limit for limit in limits if limit is not None)

    def detect(self, frame: Frame, text: str, cancelled: Cancelled) -> list[Candidate]:
        """Boxes of the frame with their scores, the best few hundred; see `Detector.detect`."""
        from vt_models.runtime.torch_engine import exact_inference  # noqa: PLC0415 - needs torch

        style = self.architecture
        prompt = prompt_of(text, style.lower_case, style.ending, style.separators)
        self._check_length(prompt)
        try:
            with exact_inference(), _stopping(self.model, cancelled):
                outputs = self.model(**self._inputs(frame, prompt))
                return self._candidates(outputs, frame, text)
        except GroundingCancelledError:
            raise
        except Exception as error:  # torch and transformers raise whatever they like
            height, width = frame.shape[:2]
            raise BackendError(
                f"{self.model.config.model_type} failed on a {width}x{height} frame: {error}"
            ) from error

    def _check_length(self, prompt: str) -> None:
        """InputError for a text that would be cut, or of which the network knows no word."""
        tokenizer = self.processor.tokenizer
        ids = tokenizer(prompt)["input_ids"]
        if len(ids) > self.text_length:
            special = len(tokenizer("")["input_ids"])
            raise InputError(
                f"the text has {len(ids) - special} word pieces, {self.model.config.model_type} "
                f"reads {self.text_length - special}; describe the target in fewer words"
            )
        ending = tokenizer(self.architecture.ending)["input_ids"]
        if not set(ids) - set(tokenizer.all_special_ids) - set(ending):
            raise InputError(
                f"{self.model.config.model_type} knows no word of {prompt!r}; say it in English"
            )

    def _inputs(self, frame: Frame, prompt: str) -> Any:
        """What the network takes, on its device."""
        padding = "max_length" if self.architecture.padded else False
        inputs = self.processor(
            images=np.array(frame, order="C"),  # torch takes no negative strides
            text=[[prompt]] if self.architecture.padded else prompt,
            return_tensors="pt",
            input_data_format="channels_last",
            padding=padding,
            max_length=self.text_length,
        )
        return inputs.to(self.model.device)

    def _candidates(self, outputs: Any, frame: Frame, text: str) -> list[Candidate]:
        """The processor's boxes, best first, at most `_MOST`."""
        found = self.processor.post_process_grounded_object_detection(
            outputs, threshold=0.0, target_sizes=[frame.shape[:2]]
        )[0]
        scores, boxes = found["scores"].cpu(), found["boxes"].cpu().double()
        order = scores.argsort(descending=True, stable=True)[:_MOST].tolist()
        labels: Sequence[str] = found["text_labels"] if self.architecture.labels else ()
        marks = (*self.processor.tokenizer.all_special_tokens, self.architecture.ending)
        candidates = []
        for index in order:
            x1, y1, x2, y2 = boxes[index].tolist()
            label = labels[index] if labels else text
            for mark in marks if labels else ():  # special tokens, and the full stop
                label = label.replace(mark, " ")
            label = " ".join(label.split()) if labels else text
            candidates.append(Candidate((x1, y1, x2 - x1, y2 - y1), float(scores[index]), label))
        return candidates


def open_detector(source: str | Path | None, device: str, threads: int | None) -> ZeroShotDetector:
    """Load a checkpoint.

    Args:
        source: directory, or "hub:OWNER/NAME" (also "hub:OWNER/NAME@REVISION"), which is taken
            from the hub's local cache and downloaded if it is not there.
        device: "auto", "cpu" or "cuda".
        threads: for torch's own pool, which is one for the whole process; None leaves it.

    Raises:
        InputError: unknown device or number of threads.
        WeightsError: no source, nothing there, or not a checkpoint of a known architecture.
        BackendError: `transformers` or torch is missing, or the device is not available.
    """
    device, threads = check_device(device), check_threads(threads)
    where, options = _place(source)
    transformers = _import_transformers()
    torch = import_torch()
    wanted = _torch_device(torch, device)
    if threads is not None:
        torch.set_num_threads(threads)
    model, processor = _load(transformers, where, options)
    return ZeroShotDetector(model.eval().to(wanted), processor)


def _place(source: str | Path | None) -> tuple[str, dict[str, Any]]:
    """Name of a directory or repository, and how `from_pretrained` may get it."""
    if source is None:
        raise WeightsError(
            "zero_shot needs a checkpoint: a directory (see docs/grounding.md for how to get "
            "one), or hub:IDEA-Research/grounding-dino-tiny to have it downloaded"
        )
    name = str(source)
    if name.startswith(HUB):
        repository, _, revision = name.removeprefix(HUB).partition("@")
        return repository, {"local_files_only": False, "revision": revision or "main"}
    directory = Path(source)
    if not (directory / "config.json").is_file():
        raise WeightsError(
            f"{directory} is no checkpoint directory: it has no config.json; give a directory that "
            f"`save_pretrained` wrote, or {HUB}OWNER/NAME to have it downloaded"
        )
    return str(directory), {"local_files_only": True}


def _load(transformers: Any, where: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """Network and processor; WeightsError unless every weight was in the checkpoint."""
    auto = transformers.AutoModelForZeroShotObjectDetection
    with _quiet(transformers):
        try:
            config = transformers.AutoConfig.from_pretrained(where, **options)
            if config.model_type not in ARCHITECTURES:
                raise WeightsError(
                    f"{where} is a {config.model_type!r}; this backend runs "
                    f"{', '.join(ARCHITECTURES)}"
                )
            model, report = auto.from_pretrained(
                where,
                config=config,
                dtype="float32",  # whatever it was saved in: images are float32
                use_safetensors=True,
                output_loading_info=True,
                **options,
            )
            processor = transformers.AutoProcessor.from_pretrained(where, **options)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise WeightsError(f"{where} cannot be loaded: {_first_line(error)}") from error
    learned = {name for name, _ in model.named_parameters()}  # what is computed may be missing
    lacking = sorted(learned & set(report["missing_keys"]))
    lacking += [str(key[0]) for key in report["mismatched_keys"]]
    if lacking:
        raise WeightsError(
            f"{where} lacks {len(lacking)} of the network's tensors or has them in another shape, "
            f"such as {', '.join(lacking[:3])}; it is damaged, or of another version"
        )
    return model, processor


@contextlib.contextmanager
def _stopping(model: Any, cancelled: Cancelled) -> Iterator[None]:
    """While a network runs, look at `cancelled` before each of its modules."""

    def look(_module: Any, _inputs: Any) -> None:
        check_cancelled(cancelled)

    hooks = [module.register_forward_pre_hook(look) for module in model.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without progress bars, which a service's log has no use for."""
    logging = transformers.utils.logging
    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    """The library's messages run over many lines; the first says what is wrong."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def _torch_device(torch: Any, device: str) -> str:
    present = torch.cuda.is_available()
    if device == "tensorrt":
        raise BackendError("zero_shot has no TensorRT; export the checkpoint and use backend onnx")
    if device == "cuda" and not present:
        raise BackendError("device 'cuda' was asked for and torch sees no CUDA GPU; use 'cpu'")
    return "cuda" if present and device != "cpu" else "cpu"


def _import_transformers() -> Any:
    """The library `transformers`, or a BackendError that says how to get it."""
    try:
        import transformers  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise BackendError(
            f"zero_shot needs the library transformers, which cannot be imported ({error}); "
            f"{install_hint('grounding')}, or use backend onnx with an exported detector"
        ) from error
    return transformers
