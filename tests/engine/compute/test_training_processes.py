import pytest
import torch

from sls.config import ComputeConfig
from sls.engine.compute.training_processes import check_batch_size, open_accelerator


def test_accumulation_of_accelerate_does_not_divide_the_gradient(monkeypatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    accelerator = open_accelerator(ComputeConfig(device="cpu"))
    weight = torch.ones(1, requires_grad=True)
    accelerator.backward((3 * weight).sum())
    assert weight.grad is not None
    assert weight.grad.item() == 3


def test_a_batch_that_the_processes_cannot_share_is_refused() -> None:
    check_batch_size(6, 100, 3)
    with pytest.raises(ValueError, match="batch_size: found 6, expected a multiple of the 4 processes"):
        check_batch_size(6, 100, 4)
