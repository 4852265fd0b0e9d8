"""Parts compiled by PyTorch: one for all layers, and on a GPU two for the convolutions and the weighing.

They are made when they first run. To compile the whole model would take as many times as long as there are layers;
on a CPU the convolutions alone take minutes. Weights keep their names.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from sls.models.countermeasure import Countermeasure
from sls.models.xlsr import Xlsr


def compile_encoder(model: nn.Module) -> None:
    """Lets PyTorch compile the encoder of a countermeasure, the only model it takes, where it is, for good."""
    for part in _parts(model):
        part.compile()


@contextmanager
def compiled_for_scoring(model: nn.Module) -> Iterator[None]:
    """Compiles the encoder of a model, as `compile_encoder` does, for the duration of a `with` block."""
    compile_encoder(model)
    try:
        yield
    finally:
        for part in _parts(model):
            part._compiled_call_impl = None


def _parts(model: nn.Module) -> list[nn.Module]:
    if not (isinstance(model, Countermeasure) and isinstance(model.xlsr, Xlsr)):
        raise ValueError(f"compile: found a {type(model).__name__}, expected a countermeasure")
    convolutions = model.xlsr.wav2vec2.feature_extractor
    is_on_gpu = next(convolutions.parameters()).device.type == "cuda"
    on_gpu = [convolutions, model.classifier.fc0] if is_on_gpu else []
    return [*model.xlsr.transformer_layers, *on_gpu]
