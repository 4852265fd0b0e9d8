import pytest
import torch

from sls.engine.compute.memory import full_memory_raises, peak_memory_gib


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
