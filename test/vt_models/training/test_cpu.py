# SPDX-License-Identifier: Apache-2.0
"""What a training process tells its allocator, seen in processes of their own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="needs the training packages")

PROGRAM = """
import resource, sys, torch
from vt_models.training.cpu import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
torch.set_num_threads(1)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(16, 2**20)
before = faults()
for _ in range(4):
    torch.ones(16, 2**20)
print(faults() - before)
"""

THREADS = """
import torch
from vt_models.training.cpu import prepare_cpu
own = torch.get_num_threads()
prepare_cpu(None)
assert torch.get_num_threads() == own
prepare_cpu(own + 2)
assert torch.get_num_threads() == own + 2
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_keep_freed_memory_next_tensor_reuses_pages() -> None:
    def page_faults(how: str) -> int:
        command = [sys.executable, "-c", PROGRAM, how]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)

    assert page_faults("kept") * 10 < page_faults("given back")


def test_prepare_cpu_sets_given_threads() -> None:
    subprocess.run([sys.executable, "-c", THREADS], check=True)
