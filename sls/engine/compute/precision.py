"""The precision of arithmetic: fp32, tf32 in matrix products, or bf16 by autocast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch

Precision = Literal["fp32", "tf32", "bf16"]


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Computes in a precision for the duration of a `with` block; weights stay in fp32.

    fp32 means fp32: tf32, which cuDNN uses for convolutions unless told otherwise, is off.

    Raises:
        ValueError: `tf32` on a CPU, which has none.
    """
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f"precision: found tf32 on {device.type}, expected fp32 or bf16 there")
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
