"""What a pickle of weights is told in: names of classes, what stands for their objects, and tensors not yet made."""

from dataclasses import dataclass
from typing import Any

import torch

_KEY_BITS = 64
"""Of a number that is a key or a length."""
_MAX_PARTS = 64
"""Of a shape, as in PyTorch, or of a key."""
_OTHER_STORAGES = {
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Untyped": torch.uint8,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}
"""Storages whose numbers are not called as PyTorch's types are in small letters."""


@dataclass(frozen=True)
class ClassName:
    """A class or function that a pickle names."""

    name: str


@dataclass(eq=False)
class StandIn:
    """An object of a class that is not loaded, or the result of a call that is not made."""

    name: str
    args: tuple[Any, ...]
    state: Any = None


@dataclass(frozen=True)
class StoredNumbers:
    """Numbers that lie in the file beside the pickle."""

    key: str
    dtype: torch.dtype
    count: int


@dataclass(eq=False)
class StoredTensor:
    """A tensor, not yet made: a view of stored numbers."""

    numbers: StoredNumbers
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def is_flat(value: Any) -> bool:
    """Whether a value is a short tuple of plain ones."""
    return isinstance(value, tuple) and len(value) <= _MAX_PARTS and all(map(is_plain, value))


def is_plain(value: Any) -> bool:
    """Whether a value is hashed in no time, and numbers to different places."""
    is_short = isinstance(value, int) and value.bit_length() < _KEY_BITS
    return is_short or isinstance(value, (str, bytes, float, type(None)))


def dtype_of(named: Any) -> torch.dtype:
    """Returns the type of a tensor's numbers, from `torch.float32` or `torch.FloatStorage`."""
    name = named.name.rpartition(".")[2] if isinstance(named, ClassName) else ""
    stored = name.removesuffix("Storage")
    found = _OTHER_STORAGES.get(stored) or getattr(torch, stored.lower() or "_", None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"found numbers of the type {name}, expected one of PyTorch's")
    return found
