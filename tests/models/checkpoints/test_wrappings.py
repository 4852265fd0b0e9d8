"""Checkpoints as people save them: every wrapping around every prefix is taken for the same model, or refused."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.published_weights import write_published
from sls.models.checkpoints import load_checkpoint
from sls.models.checkpoints.wrappings import COUNTER, unwrap
from sls.models.countermeasure import Countermeasure

State = dict[str, Tensor]


@pytest.fixture
def state(model: Countermeasure, tmp_path: Path) -> State:
    """Published names without `module.`."""
    saved = torch.load(write_published(tmp_path / "epoch_2.pth", model), weights_only=True)
    return {name.removeprefix("module."): tensor for name, tensor in saved.items()}


HOLDERS: dict[str, Callable[[State], Any]] = {
    "flat": lambda state: state,
    "flat with an epoch": lambda state: {**state, "epoch": 7, "optimizer": {"state": {}}},
    "state_dict": lambda state: {"state_dict": state},
    "model_state_dict": lambda state: {"epoch": 7, "model_state_dict": state, "optimizer_state_dict": {}},
    "model": lambda state: {"model": state, "loss": 0.5, "scaler": None},
    "net": lambda state: {"net": state, "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}},
    "checkpoint.model": lambda state: {"checkpoint": {"model": state}, "args": ["x"]},
    "lightning": lambda state: {
        "epoch": 3,
        "state_dict": {**state, "criterion.weight": torch.tensor([0.1, 0.9])},
        "hyper_parameters": {"lr": 1e-6},
        "loops": {},
    },
}
PREFIXES = ["", "module.", "module.module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model."]
PREFIXES += ["model._orig_mod.", "net.module.", "detector.cm."]


@pytest.mark.parametrize("holder", HOLDERS)
def test_weights_are_found_in_every_wrapping(
    state: State, holder: str, caplog: pytest.LogCaptureFixture
) -> None:
    if holder == "lightning":
        prefixes = [prefix for prefix in PREFIXES if prefix.startswith(("model.", "net."))]
    else:
        prefixes = PREFIXES
    for prefix in prefixes:
        caplog.clear()
        with caplog.at_level("INFO"):
            found = unwrap(
                HOLDERS[holder]({prefix + name: tensor for name, tensor in state.items()}), "a.pth"
            )
        assert found.keys() == state.keys()
        assert all(found[name] is tensor for name, tensor in state.items())
        assert len(caplog.records) == (holder != "flat" or prefix not in ("", "module."))


def test_what_is_not_used_is_named_in_one_line(state: State, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        unwrap(HOLDERS["lightning"]({f"model.{name}": tensor for name, tensor in state.items()}), "a.ckpt")
    [record] = caplog.records
    assert record.getMessage() == (
        "a.ckpt: weights taken from state_dict; named without model.; not used: criterion.weight, epoch, "
        "hyper_parameters, loops"
    )


@pytest.mark.parametrize("inner", ["_orig_mod.", "module.", "_fsdp_wrapped_module."])
def test_wrappers_within_a_name_are_dropped(state: State, inner: str) -> None:
    wrapped = {name.replace("ssl_model.", f"ssl_model.{inner}"): tensor for name, tensor in state.items()}
    assert unwrap(wrapped, "a.pth").keys() == state.keys()


@pytest.mark.parametrize("leaves_out", [True, False])
@pytest.mark.parametrize("is_new_norm", [True, False])
@pytest.mark.parametrize("form", ["pth", "protocol 4", "safetensors"])
def test_every_spelling_scores_as_its_model(
    state: State,
    model: Countermeasure,
    write_fairseq: Callable[..., Path],
    waveforms: Tensor,
    tmp_path: Path,
    form: str,
    is_new_norm: bool,
    leaves_out: bool,
) -> None:
    norms = {"weight_g": "original0", "weight_v": "original1"} if is_new_norm else {}
    for old, new in norms.items():
        state = {
            name.replace(old, f"parametrizations.weight.{new}"): tensor for name, tensor in state.items()
        }
    if leaves_out:
        del state[COUNTER]
    path = tmp_path / f"saved.{form}"
    if form == "safetensors":
        save_file(state, path)
    else:
        torch.save(
            {"model_state_dict": state, "epoch": 1}, path, pickle_protocol=4 if form == "protocol 4" else 2
        )
    loaded = load_checkpoint(path, xlsr=write_fairseq())
    with torch.inference_mode():
        assert torch.equal(loaded.model(waveforms), model(waveforms))


def test_two_models_are_refused_by_their_places(state: State) -> None:
    for one, other in itertools.combinations(["state_dict", "ema", "best"], 2):
        with pytest.raises(
            ValueError, match=rf"^a.pth: found several .*{min(one, other)}, .*{max(one, other)}"
        ):
            unwrap({one: state, other: dict(state)}, "a.pth")
    both = {**state, **{f"teacher.{name}": tensor for name, tensor in state.items()}}
    with pytest.raises(ValueError, match=r"the file itself"):
        unwrap(both, "a.pth")


def test_two_weights_of_one_name_are_refused(state: State) -> None:
    both = {**state, **{f"module.{name}": tensor for name, tensor in state.items()}}
    with pytest.raises(ValueError, match=r"^a.pth: found both .*expected each weight once"):
        unwrap(both, "a.pth")


@pytest.mark.parametrize(
    "content", [None, 3, [], {}, {"state_dict": {}}, {"a": torch.zeros(1)}, {1: {2: torch.zeros(1)}}]
)
def test_what_holds_no_countermeasure_gives_nothing(content: Any) -> None:
    assert unwrap(content, "a.pth") == {}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "name", ["fc1.weight", "first_bn.running_var", "ssl_model.model.encoder.layers.1.fc1.bias"]
)
def test_weights_that_are_no_numbers_are_refused_wherever_they_stand(
    state: State, write_fairseq: Callable[..., Path], tmp_path: Path, name: str, value: float
) -> None:
    state[name].view(-1)[-1] = value
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=rf"a.pth: found 1 .*NaN or infinite.*\({name}\)"):
        load_checkpoint(tmp_path / "a.pth", xlsr=write_fairseq())
