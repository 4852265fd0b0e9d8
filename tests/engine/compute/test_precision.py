import pytest
import torch

from sls.engine.compute.precision import arithmetic

CPU = torch.device("cpu")


def test_bf16_rounds_products_and_fp32_does_not() -> None:
    ones = torch.ones(2, 2)
    with arithmetic("bf16", CPU):
        assert (ones @ ones).dtype == torch.bfloat16
    with arithmetic("fp32", CPU):
        assert (ones @ ones).dtype == torch.float32


def test_fp32_switches_tf32_off_and_gives_it_back() -> None:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    try:
        with arithmetic("fp32", CPU):
            assert not torch.backends.cudnn.allow_tf32
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before


def test_tf32_allows_it_for_the_duration_of_the_block() -> None:
    with arithmetic("tf32", torch.device("cuda")):
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_tf32_on_a_cpu_is_refused() -> None:
    with (
        pytest.raises(ValueError, match="precision: found tf32 on cpu, expected fp32 or bf16"),
        arithmetic("tf32", CPU),
    ):
        pass
