"""The forward and backward pass of a training, on a GPU as one CUDA graph in place of thousands of launches."""

from collections.abc import Callable

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.nn import functional as F

from sls.config import OptimizerConfig
from sls.models.countermeasure import Countermeasure
from sls.models.xlsr import Xlsr

WARM_UP_CALLS = 2
"""Calls that run kernel by kernel, in which PyTorch's libraries choose and allocate what a capture must find done."""


def can_capture(model: Countermeasure, accelerator: Accelerator) -> bool:
    """Whether each step launches the same kernels on one GPU, and looks at nothing that a GPU holds."""
    encoder = model.encoder
    return (
        accelerator.device.type == "cuda"
        and accelerator.distributed_type
        == DistributedType.NO  # one process by torchrun is wrapped like several
        and isinstance(model.xlsr, Xlsr)
        and encoder.layer_drop == 0
        and not (encoder.checkpoint_activations and encoder.has_dropout)  # whose dice would be thrown again
    )


class GradientPass:
    """The forward and backward pass of a batch, which adds its gradient to that of the step."""

    def __init__(
        self, model: nn.Module, accelerator: Accelerator, config: OptimizerConfig, is_captured: bool
    ) -> None:
        """Prepares the passes of a model that accelerate has prepared, captured where `can_capture` allows it."""
        self.model, self.accelerator = model, accelerator
        self.has_shared_steps = config.accumulation_steps > 1
        self.class_weights = torch.tensor(config.loss_weights, device=accelerator.device)
        self.captured = Captured(self._add) if is_captured else None

    def add(self, waveforms: Tensor, labels: Tensor, group_size: int) -> Tensor:
        """Adds the gradient of a batch that shares a step with others, `group_size` of them.

        Returns:
            The batch's loss and number of correct decisions in this process. Shape: `(2,)`.
        """
        share = torch.tensor(self.accelerator.num_processes / group_size, device=self.accelerator.device)
        return (self.captured or self._add)(waveforms, labels, share)

    def clear(self, optimizer: torch.optim.Optimizer) -> None:
        """Clears the gradients after a step, but for those that a graph, captured without any, writes anew."""
        if self.captured is None:
            optimizer.zero_grad(set_to_none=True)
        elif self.has_shared_steps:
            optimizer.zero_grad(set_to_none=False)  # a graph adds to what it found
        elif not self.captured.is_captured:
            optimizer.zero_grad(set_to_none=True)

    def _add(self, waveforms: Tensor, labels: Tensor, share: Tensor) -> Tensor:
        with self.accelerator.autocast():
            log_probs = self.model(waveforms)
        # The weighted mean of cross entropy over the batch of all processes, whose gradients are averaged.
        total_weight = self.accelerator.reduce(self.class_weights[labels].sum(), "sum")
        loss = F.cross_entropy(log_probs, labels, self.class_weights, reduction="sum") / total_weight
        self.accelerator.backward(loss * share)
        num_correct = (log_probs.argmax(dim=1) == labels).sum().to(loss.dtype)
        return torch.stack((loss.detach(), num_correct))


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
            # On a stream of its own, as a capture will.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                output = self.function(*inputs)
            torch.cuda.current_stream().wait_stream(stream)
            return output
        if self.graph is None:
            self.inputs = tuple(tensor.clone() for tensor in inputs)
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
