"""Transformer layers compiled by PyTorch: one program for all of them, made when they first run.

To compile the whole model would take as many times as long as there are layers. Weights keep their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from sls.models.countermeasure import Countermeasure


def compile_layers(model: nn.Module) -> None:
    """Lets PyTorch compile the transformer layers of a countermeasure, for good.

    Raises:
        ValueError: the model is another one.
    """
    for layer in _layers(model):
        layer.compile()


@contextmanager
def compiled_for_scoring(model: nn.Module) -> Iterator[None]:
    """Compiles the transformer layers of a countermeasure for the duration of a `with` block.

    Raises:
        ValueError: the model is another one.
    """
    compile_layers(model)
    try:
        yield
    finally:
        for layer in _layers(model):
            layer._compiled_call_impl = None


def _layers(model: nn.Module) -> nn.ModuleList:
    if not isinstance(model, Countermeasure):
        raise ValueError(f"compile: found a {type(model).__name__}, expected a countermeasure")
    return model.xlsr.transformer_layers
