"""Packed linear layers: the scores of the model's own layers, and the model as it was afterwards."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from sls.models.checkpoints import build_countermeasure
from sls.models.countermeasure import Countermeasure
from sls.models.packing import Int8Linear, PackedLinear, can_pack, pack, packed_for_scoring
from tests.vnni import needs_vnni

NUM_SAMPLES = 8_000

pytestmark = pytest.mark.skipif(not can_pack(torch.float32), reason="this CPU does not pack linear layers")


EACH_TYPE = pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.int8, marks=needs_vnni)])


@pytest.fixture
def model() -> Countermeasure:
    return build_countermeasure("random:tiny", NUM_SAMPLES, 3).eval()


@pytest.fixture
def waveforms() -> Tensor:
    return torch.randn(5, NUM_SAMPLES, generator=torch.Generator().manual_seed(4)) * 0.1


@torch.inference_mode()
def test_packed_in_fp32_a_model_gives_its_own_scores(model, waveforms) -> None:
    own = model(waveforms)
    with packed_for_scoring(model, torch.float32):
        assert any(isinstance(module, PackedLinear) for module in model.xlsr.modules())
        assert not any(type(module) is nn.Linear for module in model.xlsr.modules())
        packed = model(waveforms)
    torch.testing.assert_close(packed, own, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_packed_in_bf16_a_model_is_as_near_to_fp32_as_autocast_is(model) -> None:
    if not can_pack(torch.bfloat16):
        pytest.skip("this CPU has no bf16")  # PyTorch would emulate it, and nothing packs there
    # The largest of a few differences is a matter of chance; their mean square over many is not.
    waveforms = torch.randn(64, NUM_SAMPLES, generator=torch.Generator().manual_seed(4)) * 0.1
    own = model(waveforms)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = model(waveforms)
        with packed_for_scoring(model, torch.bfloat16):
            packed = model(waveforms)
    assert packed.dtype == torch.float32
    assert not torch.equal(packed, own)
    assert (packed - own).square().mean() < 1.2**2 * (autocast - own).square().mean()


@needs_vnni
@torch.inference_mode()
def test_packed_in_int8_a_model_gives_nearly_its_own_scores(model, waveforms) -> None:
    own = model(waveforms)
    with packed_for_scoring(model, torch.int8):
        assert not any(isinstance(module, PackedLinear | nn.Linear) for module in model.xlsr.modules())
        packed = model(waveforms)
    assert packed.dtype == torch.float32
    assert not torch.equal(packed, own)
    torch.testing.assert_close(packed, own, rtol=0, atol=0.02)


@needs_vnni
@torch.inference_mode()
def test_products_of_int8_are_those_of_rounded_rows_and_weights() -> None:
    """By whole numbers, whose scales are 1, so that nothing is rounded."""
    generator = torch.Generator().manual_seed(6)
    linear = nn.Linear(96, 40)
    linear.weight.copy_(torch.randint(-127, 128, (40, 96), generator=generator))
    linear.weight[:, 0] = 127
    x = torch.randint(-127, 128, (3, 7, 96), generator=generator).float()
    x[..., 1] = -127
    expected = linear(x)
    torch.testing.assert_close(Int8Linear(linear)(x), expected, rtol=1e-6, atol=1e-3)
    # A scale each: one row or one output ten thousand times as large rounds no other.
    x[0, 0] *= 1e4
    linear.weight[5] *= 1e4
    torch.testing.assert_close(Int8Linear(linear)(x), linear(x), rtol=1e-5, atol=1e-2)
    torch.testing.assert_close(
        Int8Linear(linear, "gelu")(x), nn.functional.gelu(linear(x)), rtol=1e-5, atol=1e-2
    )


@needs_vnni
@torch.inference_mode()
def test_rows_of_zeros_and_of_what_is_no_number_stay_so_in_int8() -> None:
    linear = nn.Linear(32, 16, bias=False)
    x = torch.randn(4, 32)
    x[0], x[1, 3], x[2, 5] = 0, torch.nan, torch.inf
    found = Int8Linear(linear)(x)
    assert (found[0] == 0).all()
    assert not found[1:3].isfinite().any()
    assert found[3].isfinite().all()


@pytest.mark.slow
def test_a_cpu_that_would_overflow_refuses_int8() -> None:
    """oneDNN is told to do without VNNI, as it would on such a CPU."""
    code = "import torch; from sls.models.packing import can_pack as can; print(can(torch.float32)); can(torch.int8)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "True"
    assert done.stderr.splitlines()[-1].startswith("ValueError: precision: found int8")


@EACH_TYPE
@torch.inference_mode()
def test_packed_for_good_a_model_scores_as_while_it_is_packed(model, waveforms, dtype) -> None:
    with packed_for_scoring(model, dtype):
        packed = model(waveforms)
    assert pack(model, dtype)
    assert torch.equal(model(waveforms), packed)
    assert not pack(model, dtype)


def test_afterwards_a_model_has_its_own_layers_even_if_scoring_failed(model, waveforms) -> None:
    before = dict(model.named_modules())
    with pytest.raises(RuntimeError, match="stopped"), packed_for_scoring(model, torch.float32):
        raise RuntimeError("stopped")
    after = dict(model.named_modules())
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)
    model(waveforms).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


@EACH_TYPE
@torch.inference_mode()
def test_the_other_rows_of_a_batch_do_not_move_a_row(model, waveforms, dtype) -> None:
    with packed_for_scoring(model, dtype):
        scores = model(waveforms)
        others = torch.cat([waveforms[:1], 10 * torch.randn(4, NUM_SAMPLES)])
        assert torch.equal(model(others)[0], scores[0])


def test_a_bias_is_optional_and_gelu_is_the_exact_one() -> None:
    linear = nn.Linear(24, 40, bias=False)
    x = torch.randn(3, 7, 24)
    with torch.inference_mode():
        expected = nn.functional.gelu(linear(x))
        torch.testing.assert_close(
            PackedLinear(linear, torch.float32, "gelu")(x), expected, rtol=1e-5, atol=1e-6
        )
