"""Tests of `loading` and `names`: what a training may start from."""

import json
import math
import re
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sls.config import PROJECT_ROOT
from sls.models.checkpoints import CheckpointInfo, build_countermeasure, load_checkpoint, save_checkpoint
from sls.models.countermeasure import Countermeasure
from sls.models.encoder_config import NAMED_ENCODERS


def test_a_random_start_depends_on_its_seed_alone() -> None:
    torch.manual_seed(99)
    one = build_countermeasure("random:tiny", 7_760, seed=1).state_dict()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    same = build_countermeasure("random:tiny", 7_760, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    other = build_countermeasure("random:tiny", 7_760, seed=2).state_dict()
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    constant = ("norm", "bn", "conv_layers.0.conv")  # the first convolution starts as a filterbank
    weights = [name for name in one if name.endswith("weight") and not any(part in name for part in constant)]
    assert len(weights) > 20
    assert all(not torch.equal(one[name], other[name]) for name in weights)


def test_a_random_start_has_sound_weights() -> None:
    model = build_countermeasure("random:tiny", 64_600, seed=1).eval()
    assert model.encoder == NAMED_ENCODERS["tiny"]
    noise = torch.randn(2, 64_600, generator=torch.Generator().manual_seed(1)) * 0.05
    with torch.inference_mode():
        outputs = list(model.xlsr(noise))
    for output in outputs:
        assert torch.isfinite(output).all()
        assert 0.1 < output.std() < 10


def test_an_unknown_name_lists_those_that_are_known() -> None:
    with pytest.raises(ValueError, match="xlsr_model: found random:huge, .*tiny, base, 300m"):
        build_countermeasure("random:huge", 7_760, seed=1)


@pytest.mark.parametrize(("name", "expected"), [("tiny:bark", "linear or mel"), ("base:mel", "none")])
def test_filters_that_a_shape_cannot_start_from_are_refused(name: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"xlsr_model: random:{name}: .*expected {expected}"):
        build_countermeasure(f"random:{name}", 7_760, seed=1)


def test_filters_are_chosen_by_name() -> None:
    name = "xlsr.wav2vec2.feature_extractor.conv_layers.0.conv.weight"
    default, linear, mel = (
        build_countermeasure(f"random:tiny{filters}", 7_760, seed=1).state_dict()[name]
        for filters in ("", ":linear", ":mel")
    )
    assert torch.equal(default, linear)
    assert not torch.allclose(default, mel)


def test_the_new_classifier_depends_on_the_seed_and_the_encoder_on_the_file(
    write_fairseq: Callable[..., Path], model: Countermeasure, fairseq_state: dict[str, Tensor]
) -> None:
    path = write_fairseq()
    same, other = (build_countermeasure(path, 7_760, seed).state_dict() for seed in (2, 3))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, same[name])
        is_new = name in {f"classifier.fc{i}.{kind}" for i in (0, 1, 3) for kind in ("weight", "bias")}
        assert torch.equal(tensor, other[name]) != is_new
    weight = same["xlsr.wav2vec2.encoder.transformer.layers.2.feed_forward.output_dense.weight"]
    assert torch.equal(weight, fairseq_state["encoder.layers.2.fc2.weight"])


def test_a_fairseq_file_with_a_stray_key_is_refused(
    write_fairseq: Callable[..., Path], fairseq_state: dict[str, Tensor]
) -> None:
    path = write_fairseq(model=fairseq_state | {"encoder.layers.3.fc1.bias": torch.zeros(40)})
    with pytest.raises(ValueError, match=r"xlsr.pt: .*unexpected \(encoder.layers.3.fc1.bias\)"):
        build_countermeasure(path, 7_760, seed=1)


def test_a_long_list_of_keys_is_cut_and_counted(write_fairseq: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"\d\d missing .* and \d\d more"):
        build_countermeasure(write_fairseq(model={"mask_emb": torch.zeros(24)}), 7_760, seed=1)


def test_an_old_args_namespace_is_read(
    write_fairseq: Callable[..., Path], fairseq_fields: dict[str, Any], model: Countermeasure
) -> None:
    from argparse import Namespace

    path = write_fairseq(cfg=None, args=Namespace(arch="wav2vec2", **fairseq_fields))
    assert build_countermeasure(path, 7_760, seed=2).encoder == model.encoder


def test_half_precision_weights_are_read_as_fp32(
    write_fairseq: Callable[..., Path], fairseq_state: dict[str, Tensor]
) -> None:
    path = write_fairseq(model={name: tensor.half() for name, tensor in fairseq_state.items()})
    model = build_countermeasure(path, 7_760, seed=2)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_countermeasure_is_no_start_and_an_encoder_is_no_countermeasure(
    model: Countermeasure, write_fairseq: Callable[..., Path], tmp_path: Path
) -> None:
    info = CheckpointInfo(model.encoder, model.num_samples)
    path = save_checkpoint(tmp_path / "a.safetensors", model, info)
    with pytest.raises(ValueError, match="a.safetensors: .*expected a pre-trained encoder"):
        build_countermeasure(path, 7_760, seed=1)
    with pytest.raises(ValueError, match="xlsr.pt: .*expected"):
        load_checkpoint(write_fairseq())


@pytest.mark.parametrize("content", [{"a": torch.zeros(1)}, [1, 2], {"model": {"a": torch.zeros(1)}}, None])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pt")
    for load in (load_checkpoint, lambda path: build_countermeasure(path, 7_760, seed=1)):
        with pytest.raises(ValueError, match=r"a.pt: "):
            load(tmp_path / "a.pt")


def test_an_unknown_backend_is_refused(write_fairseq: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="backend: found jax, .*torchaudio.*fairseq"):
        build_countermeasure(write_fairseq(), 7_760, seed=1, backend="jax")  # type: ignore[arg-type]


def test_fairseq_that_is_not_installed_is_a_clear_error(
    write_fairseq: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for name in [name for name in sys.modules if name.partition(".")[0] == "fairseq"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fairseq", None)
    declared = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (requirement,) = declared["optional-dependencies"]["fairseq"]
    advice = rf"backend: found fairseq, .*pip install {re.escape(requirement)}"
    with pytest.raises(ValueError, match=advice):
        build_countermeasure(write_fairseq(), 7_760, seed=1, backend="fairseq")
    assert build_countermeasure(write_fairseq(), 7_760, seed=1).num_samples == 7_760


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {**state, 3: torch.zeros(2)},
        lambda state: {name: tensor.to(torch.int8) for name, tensor in state.items()},
        lambda state: {name: tensor.to(torch.complex64) for name, tensor in state.items()},
        lambda state: {name: tensor.to(torch.float8_e5m2) for name, tensor in state.items()},
        lambda state: {name: tensor.tolist() for name, tensor in state.items()},
        lambda state: dict.fromkeys(state, torch.zeros(24)),
        lambda state: {
            name: tensor.flatten()[:1].clone().expand(tensor.shape) for name, tensor in state.items()
        },
        lambda _: {},
        lambda _: {("a", "b"): torch.zeros(1), None: torch.zeros(1)},
    ],
)
def test_an_odd_state_is_refused_with_its_file(
    write_fairseq: Callable[..., Path],
    fairseq_state: dict[str, Tensor],
    change: Callable[..., Any],
    tmp_path: Path,
) -> None:
    path = write_fairseq(model=change(fairseq_state))
    if 3 in change(fairseq_state):  # what has no name is no weight
        assert build_countermeasure(path, 7_760, seed=1)
    else:
        with pytest.raises(ValueError, match=r"xlsr.pt: "):
            build_countermeasure(path, 7_760, seed=1)
    torch.save(change(fairseq_state), tmp_path / "flat.pt")
    for load in (load_checkpoint, lambda path: build_countermeasure(path, 7_760, seed=1)):
        with pytest.raises(ValueError, match=r"flat.pt: "):
            load(tmp_path / "flat.pt")


def test_weights_that_lie_in_one_another_are_refused(
    write_fairseq: Callable[..., Path], fairseq_state: dict[str, Tensor]
) -> None:
    everything = torch.rand(max(tensor.numel() for tensor in fairseq_state.values()))
    state = {name: everything[: tensor.numel()].view(tensor.shape) for name, tensor in fairseq_state.items()}
    with pytest.raises(ValueError, match=r"xlsr.pt: found weights that lie in one another"):
        build_countermeasure(write_fairseq(model=state), 7_760, seed=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"encoder_layers": 1_000_000},
        {"encoder_embed_dim": 48_000_000, "encoder_attention_heads": 1},
        {"encoder_ffn_embed_dim": 10**15},
        {"conv_pos": 10**12},
        {"conv_feature_layers": "[(512,3,2)]*1000*1000*1000"},
        {"conv_feature_layers": "[(512,3,2)]*1000 + [(512,3,2)]*1000"},
        {"conv_feature_layers": "+".join(["[(1,1,1)]"] * 100_000)},
        {"conv_feature_layers": "[" * 5_000},
        {"conv_feature_layers": "[(10**9, 1, 1)]"},
        {"conv_feature_layers": "[(1000000000, 1000000000, 1)]"},
        {"conv_feature_layers": []},
        {"conv_feature_layers": 5},
        {"encoder_layers": math.inf},
        {"encoder_layers": []},
        {"encoder_layers": "x" * 10_000},
        {"dropout": math.nan},
        {"activation_fn": {"a": [1]}},
        {"feature_grad_mult": -math.inf},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_an_encoder_that_the_file_cannot_hold_is_refused_before_it_is_made(
    write_fairseq: Callable[..., Path], fairseq_fields: dict[str, Any], fields: dict[str, Any]
) -> None:
    path = write_fairseq(cfg={"model": {**fairseq_fields, **fields}})
    begin = time.process_time()
    with pytest.raises(ValueError, match=r"xlsr.pt: ") as caught:
        build_countermeasure(path, 7_760, seed=1)
    assert time.process_time() - begin < 10
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    "change",
    [
        {"num_samples": 10**15},
        {"num_samples": 7_760.5},
        {"num_samples": "7760"},
        {"sample_rate_hz": None},
        {"epoch": {}},
        {"config": []},
        {"encoder": []},
        {"encoder": {}},
        {"encoder": {"num_layers": 10**6}},
        {"encoder": {"num_layers": 3.0}},
        {"encoder": {"dim": "24"}},
        {"encoder": {"conv_layers": 5}},
        {"other": 1},
    ],
    ids=str,
)
def test_an_odd_description_is_refused_with_its_file(
    model: Countermeasure, tmp_path: Path, change: dict[str, Any]
) -> None:
    path = save_checkpoint(
        tmp_path / "a.safetensors", model, CheckpointInfo(model.encoder, model.num_samples)
    )
    with safe_open(path, framework="pt") as file:
        info = json.loads(file.metadata()["info"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if isinstance(encoder := change.get("encoder"), dict) and encoder:
        change = {"encoder": {**info["encoder"], **encoder}}
    metadata = {"format": "sls-countermeasure/1", "info": json.dumps({**info, **change})}
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(ValueError, match=r"a.safetensors: "):
        load_checkpoint(path)
