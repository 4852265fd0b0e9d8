import sys

import pytest
import torch

from sls.tracking.provenance import hardware


@pytest.mark.parametrize(("names", "gpus"), [([], "none"), (["A", "B"], "A, B")])
def test_the_gpus_are_those_that_pytorch_sees(monkeypatch, names: list[str], gpus: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    monkeypatch.setattr(torch.cuda, "get_device_name", names.__getitem__)
    assert hardware()["gpus"] == gpus


def test_without_pytorch_no_word_is_said_of_gpus(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    machine = hardware()
    assert "gpus" not in machine
    assert machine["cpu_cores"]
