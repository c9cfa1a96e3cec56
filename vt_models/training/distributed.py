# SPDX-License-Identifier: Apache-2.0
"""One run in several processes, as `torchrun` starts them.

Every process holds the whole network and computes an equal share of each batch; what they must
agree on goes through here. What has to be the same on all of them (gradients, batch statistics,
the decision to stop) is exchanged; what is a function of the seed (pairs, initial weights) is not.

Small decisions travel between processors (gloo) even where gradients travel between GPUs (nccl):
so they make no GPU wait, and a process that died is noticed at once, by its closed connection.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vt_models.errors import InputError, TrainingError

PATIENCE = timedelta(hours=1)
"""How long a process waits for another one, which may be validating or writing to a slow disk."""


class PeerError(TrainingError):
    """Another process of the run ended."""


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a run, as one of them sees them.

    Attributes:
        rank: This process's number among all.
        size: How many there are.
        local_rank, local_size: The same on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and speaks."""
        return self.rank == 0

    def gather(self, values: Tensor) -> Tensor:
        """(N, ...) of each process, equal N -> (size * N, ...) by rank; without gradient."""
        if self.size == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    def total(self, values: Tensor) -> Tensor:
        """Sum over processes, elementwise; without gradient."""
        if self.size > 1:
            dist.all_reduce(values := values.detach().clone())
        return values

    def require_same(self, number: int, what: str) -> None:
        """Refuse to go on where a process has another number than this one.

        Raises:
            InputError: One has; the message begins with `what`.
        """
        numbers = self.gather(torch.tensor([number])).tolist()
        if len(set(numbers)) > 1:
            raise InputError(f"{what} (by process: {', '.join(map(str, numbers))}).")

    def wait(self) -> None:
        """Wait until every process has come here."""
        if self.size > 1:
            dist.all_reduce(torch.zeros(1))

    def wrap(self, net: nn.Module, device: torch.device, some_unused: bool) -> nn.Module:
        """Return the network whose backward pass averages gradients over the processes.

        Args:
            net: On `device`; every process's copy becomes that of the first one.
            device: Of this process.
            some_unused: A step may leave parameters without a gradient.
        """
        if self.size == 1:
            return net
        return DistributedDataParallel(
            net,
            device_ids=None if device.type == "cpu" else [device],
            find_unused_parameters=some_unused,
        )


SINGLE_PROCESS = ProcessGroup()


class AsyncMax:
    """Numbers of which every process goes by the largest: "somebody was asked to stop".

    The answer to a call is that of the call before, so that the exchange takes place while the step
    in between is computed and nobody waits for it. A process alone is answered at once.

    Args:
        processes: Who takes part.
        first: The answer to the first call; the same on every process.
    """

    def __init__(self, processes: ProcessGroup, *first: float) -> None:
        self._processes = processes
        self._values = torch.tensor(first, dtype=torch.float64)
        self._work: Any = None

    def __call__(self, *own: float) -> tuple[float, ...]:
        """Put this process's numbers in and return the agreed ones."""
        if self._processes.size == 1:
            return own
        agreed = self.settle()
        self._values = torch.tensor(own, dtype=torch.float64)
        self._work = dist.all_reduce(self._values, dist.ReduceOp.MAX, async_op=True)
        return agreed

    def settle(self) -> tuple[float, ...]:
        """Wait for the answer that is still out."""
        if self._work is not None:
            self._work.wait()
            self._work = None
        return tuple(self._values.tolist())


def process_group_from_environment() -> ProcessGroup:
    """Return who this process is by the variables that `torchrun` sets; alone without them.

    Raises:
        InputError: A variable is missing or is no number.
    """
    if "WORLD_SIZE" not in os.environ:
        return SINGLE_PROCESS
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    try:
        rank, size, local_rank, local_size = (int(os.environ[name]) for name in names)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"WORLD_SIZE is set, but {', '.join(names)} are not all numbers ({error!r}): start the "
            "processes with torchrun, or unset WORLD_SIZE."
        ) from error
    return ProcessGroup(rank, size, local_rank, local_size)


@contextmanager
def joined(processes: ProcessGroup, device: torch.device) -> Iterator[None]:
    """Connect the processes of a run for the time of the block.

    Raises:
        PeerError: The others cannot be reached.
    """
    if processes.size == 1:
        yield
        return
    backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(backend, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise PeerError(
            f"Process {processes.rank} of {processes.size} cannot reach the others "
            f"({_first_line(error)}): check torchrun's --rdzv-endpoint (or --master-addr) and the "
            "firewall between machines."
        ) from error
    yield
    # Not after an error: the others may be gone, and a GPU would wait for them.
    dist.destroy_process_group()


def broken_connection(error: RuntimeError) -> bool:
    """Return whether an exchange failed because of another process."""
    words = ("gloo", "nccl", "connection", "timed out", "socket")
    return any(word in str(error).lower() for word in words)


def peer_error(error: RuntimeError, checkpoint: str) -> PeerError:
    """Return the error to raise when `broken_connection`."""
    return PeerError(
        f"Another process of this run ended or cannot be reached ({_first_line(error)}); what it "
        f"said itself tells why. {checkpoint} is intact: the same command continues there."
    )


def synchronise_norms(net: nn.Module, processes: ProcessGroup, device: torch.device) -> None:
    """Let batch norms that learn take their statistics over all GPUs, in place.

    With the statistics of their own share, many processes with small shares would train another
    network than one process with the whole batch. Norms that always use their running statistics
    (ImageNet backbones) are left alone. torch synchronises norms on GPUs only: several processes on
    a CPU each take the statistics of their own share.
    """
    if processes.size == 1 or device.type == "cpu":
        return
    was_training = net.training
    net.train()
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d and child.training:
                synced = SyncBatchNorm2d(child.num_features, child.eps, child.momentum)
                synced.weight, synced.bias = child.weight, child.bias
                synced.running_mean, synced.running_var = child.running_mean, child.running_var
                synced.num_batches_tracked = child.num_batches_tracked
                setattr(parent, name, synced)
    net.train(was_training)


class SyncBatchNorm2d(nn.SyncBatchNorm, nn.BatchNorm2d):
    """torch's `SyncBatchNorm`, which still is a `BatchNorm2d` for those who fold it away."""


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
