"""How windows go through a countermeasure: the arithmetic of linear layers, and how many at once."""

import pytest
import torch

from sls.config import ComputeConfig
from sls.engine.scoring import forward_pass
from sls.engine.scoring.forward_pass import (
    LARGEST_BATCH_SIZE,
    largest_fitting,
    linear_arithmetic,
    prepared_for_scoring,
    score_windows,
)
from sls.models.checkpoints import build_countermeasure
from sls.models.packing import Int8Linear, PackedLinear
from tests.engine.scoring.loudness import Loudness
from tests.vnni import needs_vnni

CPU = torch.device("cpu")


def test_a_cpu_packs_the_precisions_that_it_can(monkeypatch) -> None:
    monkeypatch.setattr(forward_pass, "can_pack", lambda dtype: dtype == torch.float32)
    assert linear_arithmetic(ComputeConfig(precision="fp32"), CPU) == "packed"
    assert linear_arithmetic(ComputeConfig(precision="bf16"), CPU) == "plain"


def test_a_gpu_packs_nothing(monkeypatch) -> None:
    monkeypatch.setattr(forward_pass, "can_pack", lambda dtype: True)
    assert linear_arithmetic(ComputeConfig(), torch.device("cuda")) == "plain"


def test_compiled_layers_are_another_arithmetic_than_packed_ones(monkeypatch) -> None:
    monkeypatch.setattr(forward_pass, "can_pack", lambda dtype: True)
    ways = [linear_arithmetic(compute, CPU) for compute in (ComputeConfig(), ComputeConfig(compile=True))]
    assert ways == ["packed", "compiled"]


@needs_vnni
def test_each_precision_is_prepared_by_layers_of_its_own() -> None:
    for precision, kind in (("fp32", PackedLinear), ("int8", Int8Linear)):
        model = build_countermeasure("random:tiny", 8_000, 3).eval()
        with prepared_for_scoring(model, ComputeConfig(precision=precision), CPU):
            assert {type(part) for part in model.modules()} & {PackedLinear, Int8Linear} == {kind}


@pytest.mark.parametrize(("precision", "device"), [("int8", "cuda"), ("tf32", "cpu")])
def test_a_precision_that_a_device_lacks_is_refused_before_any_work(precision, device) -> None:
    with pytest.raises(ValueError, match=rf"precision: found {precision} on {device}"):
        linear_arithmetic(ComputeConfig(precision=precision), torch.device(device))


@pytest.mark.parametrize("other", [{"compile": True}, {"backend": "fairseq"}])
def test_what_would_leave_int8_out_is_refused(other) -> None:
    with pytest.raises(ValueError, match=r"precision: found int8 with .*compile=false.*backend=torchaudio"):
        ComputeConfig(precision="int8", **other)


def test_a_batch_that_does_not_fit_says_what_to_lower() -> None:
    with pytest.raises(ValueError, match=r"eval_batch_size: found 8\b.* cpu\b"):
        score_windows(Loudness(4), torch.zeros(8, 10), 8, ComputeConfig(), CPU)


def test_compiled_models_get_whole_batches_alone() -> None:
    """Another size would be compiled anew, at the end of every list."""
    windows = torch.arange(7.0)[:, None].expand(7, 10)
    for compute, sizes in ((ComputeConfig(compile=True), [4, 4]), (ComputeConfig(), [4, 3])):
        model = Loudness()
        assert score_windows(model, windows, 4, compute, CPU).tolist() == list(range(7))
        assert model.batch_sizes == sizes


@pytest.mark.parametrize(("capacity", "found"), [(1, 1), (5, 4), (64, 64), (10**6, LARGEST_BATCH_SIZE)])
def test_the_automatic_batch_is_the_greatest_power_of_two_that_fits(capacity: int, found: int) -> None:
    model = Loudness(capacity)
    assert largest_fitting(lambda size: model(torch.zeros(size, 10)), "cuda:0") == found


def test_a_gpu_too_small_for_one_utterance_is_named() -> None:
    model = Loudness(0)
    with pytest.raises(ValueError, match="one utterance .*cuda:0"):
        largest_fitting(lambda size: model(torch.zeros(size, 10)), "cuda:0")
