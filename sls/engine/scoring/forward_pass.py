"""Windows through the countermeasure: how its linear layers are multiplied, and how many windows go at once."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sls.config import ComputeConfig
from sls.data.tables.protocols import Label
from sls.engine.compute.device import DTYPES, arithmetic, check_precision, fitting_threads, full_memory_raises
from sls.models.compiling import compiled_for_scoring
from sls.models.packing import can_pack, packed_for_scoring

CPU_BATCH_SIZE = 8
"""A fixed choice on a CPU, whose memory is shared with all else."""
LARGEST_BATCH_SIZE = 256


def linear_arithmetic(compute: ComputeConfig, device: torch.device) -> Literal["compiled", "packed", "plain"]:
    """Returns how the encoder's linear layers are multiplied; it moves the last digits of the scores.

    Raises:
        ValueError: As `check_precision` and `can_pack`.
    """
    check_precision(compute.precision, device)
    if compute.compile:
        return "compiled"
    is_packed = device.type == "cpu" and can_pack(DTYPES[compute.precision])
    return "packed" if is_packed else "plain"


@contextmanager
def prepared_for_scoring(model: nn.Module, compute: ComputeConfig, device: torch.device) -> Iterator[None]:
    """Multiplies the linear layers of a model as `linear_arithmetic` says for the duration of a `with` block."""
    ways: dict[str, AbstractContextManager[None]] = {
        "compiled": compiled_for_scoring(model),
        "packed": packed_for_scoring(model, DTYPES[compute.precision]),
        "plain": nullcontext(),
    }
    with fitting_threads(model), ways[linear_arithmetic(compute, device)]:
        yield


def score_windows(
    model: nn.Module, windows: Tensor, batch_size: int, compute: ComputeConfig, device: torch.device
) -> Tensor:
    """Returns the scores of windows, float32 on the device, at most `batch_size` of them at once.

    Windows are `(windows, num_samples)`; of these the model makes log-probabilities `(batch, 2)`.

    Raises:
        ValueError: They do not fit into memory.
    """

    def explain_full_memory() -> ValueError:
        return ValueError(
            f"eval_batch_size: found {batch_size}, which does not fit into the memory of {device}; expected "
            "less, or 0 to find what fits"
        )

    # A program is compiled for one size.
    size = batch_size if compute.compile else 0
    with (
        full_memory_raises(explain_full_memory),
        torch.inference_mode(),
        arithmetic(compute.precision, device),
    ):
        parts = [
            model(_filled(part.to(device, non_blocking=True), size))[: len(part), Label.BONAFIDE].float()
            for part in windows.split(batch_size)
            if len(part)
        ]
        return torch.cat(parts) if parts else torch.empty(0)


def resolve_batch_size(
    model: nn.Module, num_samples: int, compute: ComputeConfig, device: torch.device
) -> int:
    """Returns `eval_batch_size`, or finds one where it is 0; raises ValueError where not even one utterance fits."""
    if compute.eval_batch_size:
        return compute.eval_batch_size
    if device.type == "cpu":
        return CPU_BATCH_SIZE

    def try_batch(size: int) -> None:
        with torch.inference_mode(), arithmetic(compute.precision, device):
            model(torch.zeros(size, num_samples, device=device)).cpu()

    model.to(device).eval()
    return largest_fitting(try_batch, str(device))


def largest_fitting(try_batch: Callable[[int], None], place: str) -> int:
    """Returns the greatest power of two up to `LARGEST_BATCH_SIZE` that fits; raises ValueError where none does."""
    size = LARGEST_BATCH_SIZE
    while size:
        try:
            try_batch(size)
        except torch.OutOfMemoryError:
            # What was allocated so far is in blocks of the wrong sizes.
            torch.cuda.empty_cache()
            size //= 2
        else:
            return size
    raise ValueError(f"eval_batch_size: not even one utterance fits into the memory of {place}")


def _filled(windows: Tensor, size: int) -> Tensor:
    """Returns windows `(windows, num_samples)` with silent ones behind them, up to a size."""
    return windows if len(windows) >= size else F.pad(windows, (0, 0, 0, size - len(windows)))
