"""The processes of a training: one, or several on GPUs, CPUs and machines, joined by accelerate.

`accelerate launch -m entrypoints.train` or `torchrun -m entrypoints.train` start them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, patch_environment
from torch import distributed

from sls.config import ComputeConfig
from sls.engine.compute.device import resolve_device
from sls.engine.compute.launch import Launch
from sls.engine.compute.ranks import ProcessGone, Ranks
from sls.models.countermeasure import Countermeasure


def join_processes() -> Ranks:
    """Joins the processes of this launch for the rest of their lives; each waits here for all others.

    accelerate would join them only once configuration and data are known. A process that fails before that, on a
    machine without the data, would leave the others waiting where no signal reaches them.
    """
    ranks = Ranks.read()
    if ranks.world_size == 1:
        return Ranks()
    if not distributed.is_initialized():
        # What accelerate takes over, whichever device is set.
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return ranks


@contextmanager
def lost_process_raises(advice: str) -> Iterator[None]:
    """Raises ProcessGone, with the advice at its end, where a process of the launch is gone, for what that broke."""
    try:
        yield
    except ProcessGone as error:
        raise ProcessGone(f"{error}; {advice}") from error
    except RuntimeError as error:
        # gloo raises errors without a class of their own.
        if not distributed.is_initialized() or not (
            isinstance(error, distributed.DistError) or "gloo" in str(error)
        ):
            raise
        reason = str(error).splitlines()[0].rpartition("] ")[2] if "gloo" in str(error) else str(error)
        raise ProcessGone(
            f"another process of the launch is gone, see what it said ({reason}); {advice}"
        ) from error


def open_accelerator(compute: ComputeConfig) -> Accelerator:
    """Joins the processes of a launch, each with its device; one process takes the device that is set.

    bf16 is autocast; weights stay in fp32.

    Raises:
        ValueError: No such device, a GPU that this machine lacks, or a precision that nothing is trained in.
    """
    if compute.precision == "int8":
        raise ValueError("precision: found int8, which is for scoring; expected fp32, tf32 or bf16")
    device = resolve_device(compute.device)
    is_alone = Launch.read().world_size == 1
    # accelerate keeps one state for the life of a process; a second training may have another device.
    AcceleratorState._reset_state(reset_partial_state=is_alone)
    # By which accelerate is told the device of a single process.
    with patch_environment(**({"ACCELERATE_TORCH_DEVICE": device} if is_alone else {})):
        accelerator = Accelerator(
            cpu=device.type == "cpu", mixed_precision="bf16" if compute.precision == "bf16" else "no"
        )
    # `accelerate launch` can set it, and would divide the gradient on top of accumulation_steps.
    accelerator.gradient_accumulation_steps = 1
    return accelerator


def expect_unused_weights(accelerator: Accelerator, model: Countermeasure) -> None:
    """Prepares the processes for steps in which weights go without a gradient, where the model drops layers."""
    has_layer_drop = model.encoder.layer_drop > 0
    accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=has_layer_drop)
