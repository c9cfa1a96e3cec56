# SPDX-License-Identifier: Apache-2.0
"""How a training process uses the processor: its threads, and the memory it keeps."""

from __future__ import annotations

import ctypes
import sys

import torch

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_LARGEST_INT = 2**31 - 1


def prepare_cpu(threads: int | None) -> None:
    """Set torch's threads (None: torch's own choice) and keep freed memory."""
    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Keep what tensors free in this process, and in those it forks, for the next tensors.

    Every step asks for the same gigabytes again. glibc hands large pieces back to the kernel, which
    clears each page anew. Kept, asymtrack_t_pack does 68 pairs a second instead of 60 on the two
    cores of a virtual machine, pjvlt_tiny_pack 26 instead of 24.

    Returns:
        Whether the allocator was told; False without glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT))
