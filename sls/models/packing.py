"""Linear layers laid out for scoring on a CPU: their weights are packed and cast once, not for every batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.models.wav2vec2.components import FeedForward

from sls.models.xlsr import Xlsr


class PackedLinear(nn.Module):
    """A linear layer that can only be run forward, with weights in the layout that oneDNN multiplies fastest.

    `nn.Linear` takes MKL for fp32, which on some CPUs is slower by a fifth, and under autocast without gradients
    casts its weights to bf16 again in every call. The products are those of `nn.Linear` but for rounding.

    Weights, input and output are fp32 or bf16; an activation follows in the same pass over memory.
    """

    def __init__(
        self, linear: nn.Linear, dtype: torch.dtype, activation: Literal["none", "gelu"] = "none"
    ) -> None:
        super().__init__()
        self._dtype, self._activation = dtype, activation
        self._weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().to(dtype))
        self._bias = None if linear.bias is None else linear.bias.detach().to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Returns `(..., out_features)` for `(..., in_features)`."""
        # The last argument chooses the exact GELU, by the error function.
        return torch.ops.mkldnn._linear_pointwise(
            x.to(self._dtype), self._weight, self._bias, self._activation, [], "none"
        )


class Int8Linear(nn.Module):
    """A linear layer that can only be run forward, as a product of 8-bit integers; all else is fp32.

    The weights of an output and the numbers of a row of the input have a scale each, so no row moves another. Their
    products are summed without an error, on every CPU.
    """

    def __init__(self, linear: nn.Linear, activation: Literal["none", "gelu"] = "none") -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        self._activation, self._scales = activation, _scale_rows(weight)
        quantised = (weight / self._scales).round().to(torch.int8)
        self._weight = torch.ops.onednn.qlinear_prepack(quantised, None)
        self._bias = 0.0 * self._scales[:, 0] if linear.bias is None else linear.bias.detach().float()

    def forward(self, x: Tensor) -> Tensor:
        """Returns `(..., out_features)` for `(..., in_features)`."""
        rows = x.reshape(-1, x.shape[-1]).float()
        scales = _scale_rows(rows)
        # Only unsigned numbers have a product that is fast, so 0 is taken as 128.
        quantised = (rows / scales).round_().add_(128).to(torch.uint8)
        product = _multiply(quantised, self._weight, self._scales[:, 0])
        result = torch.addcmul(self._bias, product, scales)
        if self._activation == "gelu":
            result = F.gelu(result)
        return result.view(*x.shape[:-1], -1)


def _scale_rows(rows: Tensor) -> Tensor:
    """Returns what 1 stands for in each row, `(rows, 1)`, so that its largest number becomes 127."""
    largest = torch.maximum(rows.amax(1, keepdim=True), -rows.amin(1, keepdim=True))
    return largest.clamp_min(1e-30) / 127


def _multiply(rows: Tensor, weight: Tensor, scales: Tensor) -> Tensor:
    """Returns the fp32 product of rows in uint8, whose 0 is 128, and a packed weight in int8 with its scales."""
    offsets = torch.zeros(len(scales), dtype=torch.int32)
    given = (rows, 1.0, 128, weight, scales, offsets, None)
    return torch.ops.onednn.qlinear_pointwise(*given, 1.0, 0, torch.float32, "none", [], "none")


def can_pack(dtype: torch.dtype) -> bool:
    """Returns whether this CPU multiplies packed weights of a type, fp32, bf16 or int8; measured on x86 alone.

    Raises:
        ValueError: It does not multiply int8, which there is only packed.
    """
    is_known = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith(
        "AVX"
    )
    if dtype == torch.int8 and not (is_known and _sums_exactly()):
        raise ValueError(
            "precision: found int8, but its products overflow on this CPU, which lacks VNNI; expected fp32 or bf16"
        )
    return is_known and (dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported())


@cache
def _sums_exactly() -> bool:
    """Without VNNI, oneDNN adds two products of 8-bit integers in 16 bits, which may be too few, and is silent."""
    largest = torch.full((16, 64), 127, dtype=torch.int8)
    rows = torch.full((1, 64), 255, dtype=torch.uint8)
    found = _multiply(rows, torch.ops.onednn.qlinear_prepack(largest, None), torch.ones(16))
    return bool((found == 64 * 127 * (255 - 128)).all())


@contextmanager
def packed_for_scoring(model: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Packs the linear layers of a model's encoder, as `pack` does, for the duration of a `with` block.

    Its own layers come back at the end; until then the weights of the encoder are in memory twice.
    """
    replaced = pack(model, dtype)
    try:
        yield
    finally:
        for parent, name, layer in replaced:
            setattr(parent, name, layer)


def pack(model: nn.Module, dtype: torch.dtype) -> list[tuple[nn.Module, str, nn.Module]]:
    """Packs the linear layers of a model's encoder, where this CPU multiplies packed weights of the type.

    The model must be in evaluation mode, on the CPU, and run without gradients. The head keeps its own layers, and
    so does every encoder but `Xlsr`.

    Returns:
        What was replaced: the module that held it, its name there, and the layer.

    Raises:
        ValueError: As `can_pack`.
    """
    encoders = [module for module in model.modules() if isinstance(module, Xlsr)] if can_pack(dtype) else []
    replaced = [item for encoder in encoders for item in _packable(encoder)]
    for parent, name, layer in replaced:
        setattr(parent, name, _pack(layer, dtype))
    return replaced


def _packable(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Yields the feed-forward parts and other linear layers below a module, each with its parent and name."""
    for name, child in module.named_children():
        if isinstance(child, FeedForward | nn.Linear):
            yield module, name, child
        else:
            yield from _packable(child)


def _pack(layer: nn.Module, dtype: torch.dtype, activation: Literal["none", "gelu"] = "none") -> nn.Module:
    if isinstance(layer, FeedForward):
        # Its dropouts do nothing in evaluation mode.
        return nn.Sequential(_pack(layer.intermediate_dense, dtype, "gelu"), _pack(layer.output_dense, dtype))
    assert isinstance(layer, nn.Linear)  # all that _packable yields besides
    if dtype == torch.int8:
        return Int8Linear(layer, activation)
    return PackedLinear(layer, dtype, activation)
