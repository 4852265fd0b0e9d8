"""The work of a GPU in a training step as one CUDA graph, launched at once in place of kernel by kernel."""

from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch import Tensor

from sls.models.countermeasure import Countermeasure
from sls.models.xlsr import Xlsr

WARM_UP_CALLS = 2
"""Calls that run kernel by kernel, in which PyTorch's libraries choose and allocate what a capture must find done."""


def can_capture(model: Countermeasure, accelerator: Accelerator) -> bool:
    """Whether each step launches the same kernels on one GPU, and looks at nothing that a GPU holds."""
    encoder = model.encoder
    return (
        accelerator.device.type == "cuda"
        and accelerator.num_processes == 1
        and isinstance(model.xlsr, Xlsr)
        and encoder.layer_drop == 0
        and not (encoder.checkpoint_activations and encoder.has_dropout)  # whose dice would be thrown again
    )


class Captured:
    """A function of tensors on a GPU, whose shapes stay the same, that is captured at its third call.

    PyTorch launches the thousands of kernels of a step more slowly than a GPU runs them. A graph launches the same
    kernels on the same memory, so that what the function changes in place, weights' gradients among it, is changed.
    What it finds in Python it keeps: each argument that can change must be a tensor.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self.num_calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: tuple[Tensor, ...] = ()
        self.output = torch.empty(0)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Returns the function's value, in memory that the next call overwrites."""
        self.num_calls += 1
        if self.num_calls <= WARM_UP_CALLS:
            return self._warm_up(inputs)
        if self.graph is None:
            self.inputs = tuple(tensor.clone() for tensor in inputs)
            torch.cuda.synchronize()
            torch.cuda.empty_cache()  # which a graph, with memory of its own, cannot use
            self.graph = torch.cuda.CUDAGraph()
            # The thread that pins batches goes on meanwhile.
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.output = self.function(*self.inputs)
        else:
            for place, tensor in zip(self.inputs, inputs, strict=True):
                place.copy_(tensor, non_blocking=True)
        self.graph.replay()
        return self.output

    @property
    def is_captured(self) -> bool:
        """Whether calls run the graph."""
        return self.graph is not None

    def _warm_up(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Calls the function on a stream of its own, as a capture will."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            output = self.function(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return output
