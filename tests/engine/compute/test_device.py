import pytest
import torch
from torch import nn

from sls.engine.compute.device import (
    arithmetic,
    fitting_threads,
    full_memory_raises,
    peak_memory_gib,
    resolve_device,
)

CPU = torch.device("cpu")


def test_cpu_is_taken_when_named() -> None:
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "mps", ""])
def test_what_is_no_device_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"found '?{name}'?.*expected auto, cpu, cuda\b.*cuda:N"):
        resolve_device(name)


def test_gpu_that_is_not_there_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no GPU"):
        resolve_device("cuda")
    assert resolve_device("auto") == torch.device("cpu")


def test_gpu_beyond_the_last_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert resolve_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(ValueError, match=r"\b1 GPU"):
        resolve_device("cuda:1")


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


@pytest.mark.parametrize(("precision", "device"), [("tf32", "cpu"), ("int8", "cuda")])
def test_what_a_device_does_not_have_is_refused(precision, device) -> None:
    with (
        pytest.raises(ValueError, match=rf"precision: found {precision}\b.*{device}, expected fp32\b.*bf16"),
        arithmetic(precision, torch.device(device)),
    ):
        pass


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
def test_full_memory_is_told_in_other_words(error: Exception) -> None:
    with pytest.raises(MemoryError, match="use less"), full_memory_raises(lambda: MemoryError("use less")):
        raise error


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), full_memory_raises(lambda: MemoryError("use less")):
        raise RuntimeError("shapes do not match")


def test_the_memory_of_this_process_is_some_hundred_megabytes() -> None:
    assert 0.05 < peak_memory_gib(torch.device("cpu")) < 1_000


def test_one_thread_computes_a_small_model_unless_the_environment_says_how_many(monkeypatch) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        found = {}
        for size in (10, 4000):
            with fitting_threads(nn.Linear(size, size, device="meta")):
                found[size] = torch.get_num_threads()
        assert found == {10: 1, 4000: 2}
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        with fitting_threads(nn.Linear(10, 10)):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
