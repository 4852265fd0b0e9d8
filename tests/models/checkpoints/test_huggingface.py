import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sls.models.checkpoints import build_countermeasure
from sls.models.checkpoints.huggingface import read_huggingface_config
from sls.models.checkpoints.names import HUGGINGFACE_TO_FAIRSEQ_UNUSED
from sls.models.countermeasure import Countermeasure
from sls.models.encoder_config import NAMED_ENCODERS, EncoderConfig

XLS_R_300M = {  # the fields of facebook/wav2vec2-xls-r-300m that shape the encoder, with its dropouts off
    "model_type": "wav2vec2",
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "feat_extract_activation": "gelu",
    "hidden_act": "gelu",
    "do_stable_layer_norm": True,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "layerdrop": 0.0,
    "layer_norm_eps": 1e-05,
    "apply_spec_augment": True,
    "mask_time_prob": 0.075,
}
SMALL = XLS_R_300M | {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}


def huggingface_name(name: str) -> str:
    """The name that Hugging Face gives to a weight of fairseq, as its conversion script maps them."""
    unused = {theirs: ours for ours, theirs in HUGGINGFACE_TO_FAIRSEQ_UNUSED.items()}
    if name == "mask_emb":
        return "wav2vec2.masked_spec_embed"
    if name in unused:
        return unused[name]
    parts = name.split(".")
    if name.startswith("feature_extractor."):
        layer, kind = parts[2], parts[-1]
        part = "conv" if parts[3] == "0" else "layer_norm"
        return f"wav2vec2.feature_extractor.conv_layers.{layer}.{part}.{kind}"
    for fairseq, other in (
        ("post_extract_proj.", "feature_projection.projection."),
        ("encoder.pos_conv.0.", "encoder.pos_conv_embed.conv."),
        (".self_attn_layer_norm.", ".layer_norm."),
        (".self_attn.", ".attention."),
        (".fc1.", ".feed_forward.intermediate_dense."),
        (".fc2.", ".feed_forward.output_dense."),
    ):
        name = name.replace(fairseq, other)
    if name.startswith("layer_norm."):
        name = f"feature_projection.{name}"
    return f"wav2vec2.{name}"


@pytest.fixture
def state(fairseq_state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {huggingface_name(name): tensor.contiguous() for name, tensor in fairseq_state.items()}


@pytest.fixture
def write(tmp_path: Path, state: dict[str, Tensor]) -> Callable[..., Path]:
    def save(tensors: dict[str, Tensor] | None = None, **fields: Any) -> Path:
        (tmp_path / "config.json").write_text(json.dumps(SMALL | fields))
        save_file(tensors or state, tmp_path / "model.safetensors", metadata={"format": "pt"})
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
    write: Callable[..., Path], state: dict[str, Tensor], model: Countermeasure, weight_norm: str, prefix: str
) -> None:
    if weight_norm != "weight_g":
        conv = "wav2vec2.encoder.pos_conv_embed.conv."
        for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
            state[f"{conv}parametrizations.weight.{new}"] = state.pop(conv + old)
    state = {prefix + name.removeprefix("wav2vec2."): tensor for name, tensor in state.items()}
    found = build_countermeasure(write(state), 8_000, seed=2)
    assert found.encoder == model.encoder
    assert_same_weights(found, model)
    assert found.pretraining_weights.keys() == model.pretraining_weights.keys()


def test_a_pickle_of_the_same_weights_is_read_too(
    write: Callable[..., Path], state: dict[str, Tensor], model: Countermeasure
) -> None:
    path = write().with_name("pytorch_model.bin")
    torch.save(state, path)
    assert_same_weights(build_countermeasure(path, 8_000, seed=2), model)


def test_xls_r_300m_is_understood(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(XLS_R_300M))
    assert read_huggingface_config(tmp_path / "config.json") == NAMED_ENCODERS["300m"]


def test_dropouts_are_honoured(tmp_path: Path) -> None:
    names = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "layerdrop")
    values = (0.11, 0.12, 0.13, 0.14, 0.15)
    (tmp_path / "config.json").write_text(json.dumps(SMALL | dict(zip(names, values, strict=True))))
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
    with pytest.raises(ValueError, match=rf"config.json: .*{field}: found {value!r}, expected"):
        build_countermeasure(write(**{field: value}), 8_000, seed=2)


def test_every_key_is_accounted_for(write: Callable[..., Path], state: dict[str, Tensor]) -> None:
    del state["wav2vec2.encoder.layer_norm.bias"]
    state["wav2vec2.adapter.layers.0.conv.weight"] = torch.zeros(1)
    with pytest.raises(
        ValueError,
        match=r"1 missing \(encoder.layer_norm.bias\); 1 unexpected \(adapter.layers.0.conv.weight\)",
    ):
        build_countermeasure(write(state), 8_000, seed=2)


def test_without_its_configuration_it_cannot_be_read(write: Callable[..., Path]) -> None:
    path = write()
    path.with_name("config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config.json: no such file"):
        build_countermeasure(path, 8_000, seed=2)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model_type": "wav2vec2"}'])
def test_a_malformed_configuration_is_refused(write: Callable[..., Path], text: str) -> None:
    path = write()
    path.with_name("config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config.json: ") as caught:
        build_countermeasure(path, 8_000, seed=2)
    assert "\n" not in str(caught.value)
