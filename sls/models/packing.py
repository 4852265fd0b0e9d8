"""Linear layers laid out for scoring on a CPU: their weights are packed and cast once, not for every batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
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


def can_pack(dtype: torch.dtype) -> bool:
    """Returns whether this CPU multiplies packed weights of a type; measured on x86 alone."""
    if not (
        torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")
    ):
        return False
    return dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


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


def _pack(layer: nn.Module, dtype: torch.dtype) -> nn.Module:
    if isinstance(layer, FeedForward):
        # Its dropouts do nothing in evaluation mode.
        return nn.Sequential(
            PackedLinear(layer.intermediate_dense, dtype, "gelu"), PackedLinear(layer.output_dense, dtype)
        )
    assert isinstance(layer, nn.Linear)  # all that _packable yields besides
    return PackedLinear(layer, dtype)
