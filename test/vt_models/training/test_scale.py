# SPDX-License-Identifier: Apache-2.0
"""One batch in parts, in less memory, in limited time: the same training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from timm.layers import DropPath
from torch import nn

from vt_models import create_miniature
from vt_models.cli.main import main
from vt_models.errors import InputError
from vt_models.training import trainer as loop
from vt_models.training.data.batches import BatchNumbers
from vt_models.training.data.targets import load_image_pack
from vt_models.training.distributed import ProcessGroup, process_group_from_environment
from vt_models.training.progress import Hooks, Progress
from vt_models.training.recipe.settings import OptimConfig, Recipe, SamplingConfig
from vt_models.training.trainer import Trainer, seed_everything

pytestmark = pytest.mark.train

RECIPE = """
model: asymtrack_lite0
checkpoint_every: 8
optim: {samples: 24, batch_size: 4, lr: 1e-4, backbone_lr_factor: 1, grad_clip: 5}
"""


def _trainer(model: str, folder: Path, pack: Path, **optim: object) -> Trainer:
    settings = {"samples": 24, "batch_size": 4, "lr": 1e-3, "backbone_lr_factor": 1.0} | optim
    recipe = Recipe(
        model, seed=4, sampling=SamplingConfig(negative_share=0.3), optim=OptimConfig(**settings)
    )
    seed_everything(recipe.seed)
    net = create_miniature(model)
    return Trainer(net, recipe, load_image_pack(pack), folder, torch.device("cpu"))


def _gradients(trainer: Trainer) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Loss terms and gradients of the first batch, of a network that treats each pair by itself."""
    trainer.prepare()
    for module in trainer._net.modules():
        if isinstance(module, (nn.BatchNorm2d, DropPath)):
            module.eval()
    parts, _ = next(trainer.batches())
    terms = trainer.compute_gradients(parts)
    named = trainer._net.named_parameters()
    gradients = {name: value.grad for name, value in named if value.grad is not None}
    return {name: term.item() for name, term in terms.items()}, gradients


@pytest.mark.parametrize(("size", "parts"), [(1, 1), (1, 3), (2, 1), (2, 3), (6, 1)])
def test_batch_numbers_are_the_same_for_any_number_of_processes(size: int, parts: int) -> None:
    ranks = [ProcessGroup(rank, size) for rank in range(size)]
    shares = [list(BatchNumbers(6, 29, 6, processes, parts)) for processes in ranks]
    assert {len(share) for share in shares} == {3 * parts}
    for batch in range(3):
        lists = [share[batch * parts + part] for share in shares for part in range(parts)]
        numbers = [number for numbers in lists for number in numbers]
        assert numbers == list(range(6 + 6 * batch, 12 + 6 * batch))


@pytest.mark.parametrize("model", ["asymtrack_t", "procontext", "sbt_small"])
def test_accumulate_gives_the_gradients_of_the_whole_batch(
    model: str, tmp_path: Path, mini_pack: Path
) -> None:
    terms, gradients = _gradients(_trainer(model, tmp_path, mini_pack))
    summed, added = _gradients(_trainer(model, tmp_path, mini_pack, accumulate=4))
    assert summed == pytest.approx(terms, rel=1e-4, abs=1e-6)
    assert added.keys() == gradients.keys()
    for name, gradient in gradients.items():
        largest = gradient.abs().max().clamp(min=1e-3)
        assert (added[name] - gradient).abs().max() < 1e-4 * largest, name


@pytest.mark.parametrize("model", ["procontext", "pjvlt"])
def test_grad_checkpointing_changes_no_gradient(
    model: str, tmp_path: Path, mini_pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = []
    from vt_models.nets import vit  # noqa: PLC0415

    plain = vit.checkpoint
    monkeypatch.setattr(vit, "checkpoint", lambda *a, **k: again.append(1) or plain(*a, **k))
    _, kept = _gradients(_trainer(model, tmp_path, mini_pack))
    assert not again
    _, computed = _gradients(_trainer(model, tmp_path, mini_pack, grad_checkpointing=True))
    assert again
    assert computed.keys() == kept.keys()
    assert all(torch.allclose(computed[name], kept[name], atol=1e-6) for name in kept)


def test_max_seconds_schedules_follow_the_time(
    tmp_path: Path, mini_pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(range(10**6))
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    monkeypatch.setattr(loop, "LOG_EVERY_STEPS", 1)
    optim = {"samples": 4000, "decay": "linear", "decay_start": 0.0}
    trainer = _trainer("procontext", tmp_path, mini_pack, **optim)
    reports: list[Progress] = []
    hooks = Hooks(on_progress=reports.append)
    trainer.run(hooks, max_seconds=30)
    assert trainer.finished
    assert 16 <= trainer.samples <= 60
    rates = [report.lr for report in reports]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0.8e-3
    assert rates[-1] < 0.2e-3
    again = _trainer("procontext", tmp_path, mini_pack, **optim)
    assert again.resume()
    again.run(hooks, max_seconds=30)
    assert (again.samples, again.finished) == (trainer.samples, True)


def test_max_minutes_command_writes_weights(tmp_path: Path, mini_pack: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    words = ["train", str(tmp_path / "r.yaml"), "--data", str(mini_pack), "--workers", "0"]
    words += ["--output", str(tmp_path / "run"), "--set", "optim.samples=1000000"]
    assert main([*words, "--max-minutes", "0"]) == 2
    assert main([*words, "--max-minutes", "0.01", "--threads", "1"]) == 0
    assert (tmp_path / "run" / "weights.safetensors").is_file()


def test_tensorboard_of_a_killed_run_has_each_step_once(
    tmp_path: Path, mini_pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    words = ["train", str(tmp_path / "r.yaml"), "--data", str(mini_pack), "--workers", "0"]
    words += ["--output", str(tmp_path / "run"), "--threads", "1", "--set", "optim.samples=16"]
    monkeypatch.setattr(loop, "LOG_EVERY_STEPS", 1)
    with monkeypatch.context() as patch:
        saved = []
        save = Trainer.save

        def cut(trainer: Trainer) -> None:
            if saved:
                raise KeyboardInterrupt
            saved.append(trainer.samples)
            save(trainer)

        patch.setattr(Trainer, "save", cut)
        assert main(words) == 130
    assert saved == [8]
    assert main(words) == 0
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("train/total")] == [4, 8, 12, 16]


def test_compile_failure_falls_back_with_a_sentence(
    tmp_path: Path, mini_pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(nn.Module):
        def forward(self, **_: object) -> None:
            raise RuntimeError("no C++ compiler\nlong story")

    monkeypatch.setattr(torch, "compile", lambda net: Broken())
    plain = _trainer("asymtrack_lite0", tmp_path, mini_pack, samples=8)
    plain.run()
    trainer = _trainer("asymtrack_lite0", tmp_path, mini_pack, samples=8, compile=True)
    notices: list[str] = []
    trainer.run(Hooks(on_notice=notices.append))
    (notice,) = notices
    assert "torch.compile does not work here (no C++ compiler)" in notice
    expected, found = plain.averaged_net.state_dict(), trainer.averaged_net.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_compile_gives_the_same_numbers(tmp_path: Path, mini_pack: Path) -> None:
    plain = _trainer("asymtrack_lite0", tmp_path, mini_pack, samples=8, lr=1e-5)
    compiled = _trainer("asymtrack_lite0", tmp_path, mini_pack, samples=8, lr=1e-5, compile=True)
    notices: list[str] = []
    plain.run()
    compiled.run(Hooks(on_notice=notices.append))
    assert not notices
    expected, found = plain.averaged_net.state_dict(), compiled.averaged_net.state_dict()
    assert all(torch.allclose(expected[name], found[name], atol=1e-4) for name in expected)


def test_batch_not_divisible_by_processes_is_refused(tmp_path: Path, mini_pack: Path) -> None:
    recipe = Recipe("asymtrack_lite0", optim=OptimConfig(batch_size=32, accumulate=2))
    pack, net = load_image_pack(mini_pack), create_miniature("asymtrack_lite0")
    with pytest.raises(InputError, match=r"32 pairs.*3 processes.*multiple of 6"):
        Trainer(net, recipe, pack, tmp_path, torch.device("cpu"), 0, ProcessGroup(0, 3))


def test_process_group_from_environment_reads_torchrun_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert process_group_from_environment() == ProcessGroup(0, 1)
    names = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    assert process_group_from_environment() == ProcessGroup(3, 4, 1, 2)
    monkeypatch.setenv("LOCAL_RANK", "first")
    with pytest.raises(InputError, match="start the processes with torchrun"):
        process_group_from_environment()
