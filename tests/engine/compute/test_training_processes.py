import pytest
import torch

from sls.config import ComputeConfig
from sls.engine.compute.training_processes import open_accelerator


def test_accumulation_of_accelerate_does_not_divide_the_gradient(monkeypatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    accelerator = open_accelerator(ComputeConfig(device="cpu"))
    weight = torch.ones(1, requires_grad=True)
    accelerator.backward((3 * weight).sum())
    assert weight.grad is not None
    assert weight.grad.item() == 3


def test_nothing_is_trained_in_int8() -> None:
    with pytest.raises(ValueError, match="precision: found int8, .* bf16"):
        open_accelerator(ComputeConfig(device="cpu", precision="int8"))
