"""The batch size: what the user gave, or the greatest power of two that fits into the memory of the GPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from sls.config import ComputeConfig
from sls.engine.compute.precision import arithmetic

CPU_BATCH_SIZE = 8
"""A fixed choice on a CPU, whose memory is shared with all else."""
LARGEST_BATCH_SIZE = 256


def resolve_batch_size(
    model: nn.Module, num_samples: int, compute: ComputeConfig, device: torch.device
) -> int:
    """Returns `eval_batch_size`, or finds one where it is 0.

    Raises:
        ValueError: Not even one utterance fits.
    """
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
    """Returns the greatest power of two up to `LARGEST_BATCH_SIZE` with which a trial does not run out of memory.

    Raises:
        ValueError: Not even one utterance fits into the memory of `place`.
    """
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
