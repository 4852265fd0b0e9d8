"""The memory of a device: the most that was used of it, and errors where it is full."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

GIB = 2**30


def reset_peak_memory(device: torch.device) -> None:
    """Begins to count anew on a GPU; a CPU's count is of the life of the process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_gib(device: torch.device) -> float:
    """Returns the most memory used since `reset_peak_memory` on a GPU, or by this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / GIB


@contextmanager
def full_memory_raises(explain: Callable[[], Exception]) -> Iterator[None]:
    """Raises the error that `explain` returns in place of PyTorch's, where a device's memory is full."""
    try:
        yield
    except RuntimeError as error:
        # On a CPU it is a RuntimeError like any other.
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise explain() from error
        raise
