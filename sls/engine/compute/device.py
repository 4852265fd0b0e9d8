"""The choice of the device: what the user named, or an error; never a silent fall back to the CPU."""

from __future__ import annotations

import torch


def resolve_device(name: str) -> torch.device:
    """Returns the device for a `device` setting: auto, cpu, cuda or cuda:N.

    Raises:
        ValueError: Not a device, or a GPU that this machine lacks.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device: found {name}, expected auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device: found {name}, expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device: found {name}, but PyTorch sees no GPU here; use device=cpu to run on the CPU"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device: found {name}, but this machine has {torch.cuda.device_count()} GPUs")
    return device
