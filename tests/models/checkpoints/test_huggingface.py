"""Tests of `loading`, `names` and `foreign_configs` with Hugging Face's files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sls.models.checkpoints import build_countermeasure
from sls.models.checkpoints.foreign_configs import read_huggingface_config
from sls.models.countermeasure import Countermeasure
from sls.models.encoder_config import NAMED_ENCODERS, EncoderConfig


@pytest.fixture
def write(
    tmp_path: Path, huggingface_state: dict[str, Tensor], huggingface_config: dict[str, Any]
) -> Callable[..., Path]:
    def save(tensors: dict[str, Tensor] | None = None, **fields: Any) -> Path:
        (tmp_path / "config.json").write_text(json.dumps(huggingface_config | fields))
        save_file(tensors or huggingface_state, tmp_path / "model.safetensors", metadata={"format": "pt"})
        return tmp_path / "model.safetensors"

    return save


def assert_same_weights(one: Countermeasure, other: Countermeasure) -> None:
    states = one.state_dict(), other.state_dict()
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


@pytest.mark.parametrize("weight_norm", ["weight_g", "parametrizations.weight.original0"])
@pytest.mark.parametrize("prefix", ["wav2vec2.", ""])
def test_it_is_the_model_of_the_fairseq_file(
    write: Callable[..., Path],
    huggingface_state: dict[str, Tensor],
    model: Countermeasure,
    weight_norm: str,
    prefix: str,
) -> None:
    state = dict(huggingface_state)
    if weight_norm != "weight_g":
        conv = "wav2vec2.encoder.pos_conv_embed.conv."
        for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
            state[f"{conv}parametrizations.weight.{new}"] = state.pop(conv + old)
    state = {prefix + name.removeprefix("wav2vec2."): tensor for name, tensor in state.items()}
    found = build_countermeasure(write(state), 7_760, seed=2)
    assert found.encoder == model.encoder
    assert_same_weights(found, model)


def test_a_pickle_of_the_same_weights_is_read_too(
    write: Callable[..., Path], huggingface_state: dict[str, Tensor], model: Countermeasure
) -> None:
    path = write().with_name("pytorch_model.bin")
    torch.save(huggingface_state, path)
    assert_same_weights(build_countermeasure(path, 7_760, seed=2), model)


def test_xls_r_300m_is_understood(tmp_path: Path, huggingface_config: dict[str, Any]) -> None:
    fields = huggingface_config | {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "conv_dim": [512] * 7,
        "num_conv_pos_embeddings": 128,
        "num_conv_pos_embedding_groups": 16,
    }
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert read_huggingface_config(tmp_path / "config.json") == NAMED_ENCODERS["300m"]


def test_dropouts_are_honoured(tmp_path: Path, huggingface_config: dict[str, Any]) -> None:
    names = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "layerdrop")
    values = (0.11, 0.12, 0.13, 0.14, 0.15)
    (tmp_path / "config.json").write_text(
        json.dumps(huggingface_config | dict(zip(names, values, strict=True)))
    )
    config: EncoderConfig = read_huggingface_config(tmp_path / "config.json")
    found = (config.dropout, config.attention_dropout, config.activation_dropout, config.projection_dropout)
    assert (*found, config.layer_drop) == values


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_type", "hubert"),
        ("hidden_act", "relu"),
        ("feat_extract_norm", "batch"),
        ("layer_norm_eps", 1e-6),
        ("add_adapter", True),
    ],
)
def test_what_is_not_supported_is_named_with_its_value(
    write: Callable[..., Path], field: str, value: object
) -> None:
    with pytest.raises(ValueError, match=rf"config.json: .*{field}: found {value!r}"):
        build_countermeasure(write(**{field: value}), 7_760, seed=2)


def test_every_key_is_accounted_for(write: Callable[..., Path], huggingface_state: dict[str, Tensor]) -> None:
    state = dict(huggingface_state)
    del state["wav2vec2.encoder.layer_norm.bias"]
    state["wav2vec2.adapter.layers.0.conv.weight"] = torch.zeros(1)
    with pytest.raises(
        ValueError,
        match=r"\(encoder.layer_norm.bias\); .*\(adapter.layers.0.conv.weight\)",
    ):
        build_countermeasure(write(state), 7_760, seed=2)


def test_without_its_configuration_it_cannot_be_read(write: Callable[..., Path]) -> None:
    path = write()
    path.with_name("config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config.json: "):
        build_countermeasure(path, 7_760, seed=2)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model_type": "wav2vec2"}'])
def test_a_malformed_configuration_is_refused(write: Callable[..., Path], text: str) -> None:
    path = write()
    path.with_name("config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config.json: ") as caught:
        build_countermeasure(path, 7_760, seed=2)
    assert "\n" not in str(caught.value)
