"""The device: its choice, the precision of its arithmetic, and its memory."""

import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from sls.config import Precision

GIB = 2**30
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}
"""Of the weights of linear layers, by precision, where they are packed."""
SMALL_MODEL = 10_000_000
"""Weights of a model that one thread computes; the smallest published encoder has ten times as many."""


def resolve_device(name: str) -> torch.device:
    """Returns the device of auto, cpu, cuda or cuda:N; raises ValueError rather than fall back to the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device: found {name}, expected auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device: found {name}, expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device: found {name}, but PyTorch sees no GPU here; use device=cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device: found {name}, but this machine has {torch.cuda.device_count()} GPUs")
    return device


@contextmanager
def fitting_threads(model: nn.Module) -> Iterator[None]:
    """Computes a small model by one thread for the duration of a `with` block, unless OMP_NUM_THREADS is set.

    Several threads would wait for one another longer than they work, and on a busy machine many times as long.
    """
    before = torch.get_num_threads()
    is_small = sum(weight.numel() for weight in model.parameters()) < SMALL_MODEL
    if is_small and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_precision(precision: Precision, device: torch.device) -> None:
    """Raises ValueError for `tf32` on a CPU, which has none, and for `int8` on a GPU."""
    if precision == {"cpu": "tf32", "cuda": "int8"}[device.type]:
        there = {"cpu": "fp32, bf16 or int8", "cuda": "fp32, tf32 or bf16 there, or device=cpu"}[device.type]
        raise ValueError(f"precision: found {precision} on {device.type}, expected {there}")


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Computes in a precision for the duration of a `with` block.

    fp32 means fp32: tf32, which cuDNN uses for convolutions unless told otherwise, is off. In int8 are linear layers
    alone, packed so (`sls.models.packing`); all else is fp32.

    Raises:
        ValueError: As `check_precision`.
    """
    check_precision(precision, device)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    is_tf32 = precision == "tf32"
    _allow_tf32(is_tf32, is_tf32)
    try:
        with torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext():
            yield
    finally:
        _allow_tf32(*before)


def _allow_tf32(in_products: bool, in_convolutions: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = in_products
    torch.backends.cudnn.allow_tf32 = in_convolutions


def read_later(values: Tensor) -> Callable[[], Tensor]:
    """Begins to copy what a device is still computing, and returns what waits for that and returns the copy.

    Asked for later, the copy would wait for all that the device was given to do in between.
    """
    if values.device.type != "cuda":
        return lambda: values.cpu()
    copy = values.to("cpu", non_blocking=True)
    is_done = torch.cuda.Event()
    is_done.record(torch.cuda.current_stream(values.device))

    def wait() -> Tensor:
        is_done.synchronize()
        return copy

    return wait


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
