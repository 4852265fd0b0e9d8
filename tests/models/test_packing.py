"""Packed linear layers: the scores of the model's own layers, and the model as it was afterwards."""

import pytest
import torch
from torch import Tensor, nn

from sls.models.checkpoints import build_countermeasure
from sls.models.countermeasure import Countermeasure
from sls.models.packing import PackedLinear, can_pack, pack, packed_for_scoring

NUM_SAMPLES = 8_000

pytestmark = pytest.mark.skipif(not can_pack(torch.float32), reason="this CPU does not pack linear layers")


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


@torch.inference_mode()
def test_packed_for_good_a_model_scores_as_while_it_is_packed(model, waveforms) -> None:
    with packed_for_scoring(model, torch.float32):
        packed = model(waveforms)
    assert pack(model, torch.float32)
    assert torch.equal(model(waveforms), packed)
    assert not pack(model, torch.float32)


def test_afterwards_a_model_has_its_own_layers_even_if_scoring_failed(model, waveforms) -> None:
    before = dict(model.named_modules())
    with pytest.raises(RuntimeError, match="stopped"), packed_for_scoring(model, torch.float32):
        raise RuntimeError("stopped")
    after = dict(model.named_modules())
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)
    model(waveforms).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


@torch.inference_mode()
def test_the_other_rows_of_a_batch_do_not_move_a_row(model, waveforms) -> None:
    with packed_for_scoring(model, torch.float32):
        scores = model(waveforms)
        others = torch.cat([waveforms[:1], torch.randn(4, NUM_SAMPLES)])
        assert torch.equal(model(others)[0], scores[0])


def test_a_bias_is_optional_and_gelu_is_the_exact_one() -> None:
    linear = nn.Linear(24, 40, bias=False)
    x = torch.randn(3, 7, 24)
    with torch.inference_mode():
        expected = nn.functional.gelu(linear(x))
        torch.testing.assert_close(
            PackedLinear(linear, torch.float32, "gelu")(x), expected, rtol=1e-5, atol=1e-6
        )
