"""Tests of `foreign_configs` with what fairseq writes; test_huggingface.py has what Hugging Face writes."""

from argparse import Namespace
from typing import Any

import pytest

from sls.models.checkpoints.foreign_configs import fairseq_fields as write_fields
from sls.models.checkpoints.foreign_configs import parse_fairseq_config
from sls.models.encoder_config import NAMED_ENCODERS, EncoderConfig


def parse(fields: Any) -> EncoderConfig:
    return parse_fairseq_config({"cfg": {"model": fields}}, "file.pt")


def test_the_small_encoder_is_understood(fairseq_fields: dict[str, Any], small_config: EncoderConfig) -> None:
    assert parse(fairseq_fields) == small_config


def test_xlsr_300m_is_understood() -> None:
    fields = {
        "_name": "wav2vec2",
        "extractor_mode": "layer_norm",
        "encoder_layers": 24,
        "encoder_embed_dim": 1024,
        "encoder_ffn_embed_dim": 4096,
        "encoder_attention_heads": 16,
        "layer_norm_first": True,
        "conv_bias": True,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "quantize_targets": True,
        "final_dim": 768,
    }
    assert parse(fields) == NAMED_ENCODERS["300m"]


@pytest.mark.parametrize("name", NAMED_ENCODERS)
def test_a_shape_in_the_words_of_fairseq_is_understood(name: str) -> None:
    assert parse(write_fields(NAMED_ENCODERS[name])) == NAMED_ENCODERS[name]


def test_what_a_file_leaves_out_is_what_fairseq_takes() -> None:
    config = parse({"_name": "wav2vec2"})
    assert (config.num_layers, config.dim, config.num_heads, config.ffn_dim) == (12, 768, 12, 3072)
    assert (config.extractor_mode, config.layer_norm_first, config.conv_bias) == ("group_norm", False, False)
    assert (config.dropout, config.attention_dropout, config.layer_drop) == (0.1, 0.1, 0.0)


def test_dropouts_and_layer_drop_are_honoured(fairseq_fields: dict[str, Any]) -> None:
    fields = {
        "dropout": 0.11,
        "attention_dropout": 0.12,
        "activation_dropout": 0.13,
        "dropout_input": 0.14,
        "encoder_layerdrop": 0.15,
        "feature_grad_mult": 0.16,
        "checkpoint_activations": True,
    }
    config = parse(fairseq_fields | fields)
    found = (config.dropout, config.attention_dropout, config.activation_dropout, config.projection_dropout)
    assert found == (0.11, 0.12, 0.13, 0.14)
    assert (config.layer_drop, config.feature_grad_mult, config.checkpoint_activations) == (0.15, 0.16, True)


def test_equal_dimensions_mean_no_projection(fairseq_fields: dict[str, Any]) -> None:
    assert not parse(fairseq_fields | {"conv_feature_layers": "[(24, 10, 5)]"}).has_projection


def test_old_files_keep_it_under_args(fairseq_fields: dict[str, Any], small_config: EncoderConfig) -> None:
    fields = vars(Namespace(arch="wav2vec2", **fairseq_fields))
    assert parse_fairseq_config({"args": fields, "cfg": None}, "file.pt") == small_config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("activation_fn", "relu"),
        ("layer_type", "conformer"),
        ("pos_conv_depth", 5),
        ("conv_pos_batch_norm", True),
        ("quantize_input", True),
        ("crop_seq_to_multiple", 2),
        ("extractor_mode", "instance_norm"),
        ("_name", "wav2vec_ctc"),
    ],
)
def test_what_is_not_supported_is_named_with_its_value(
    fairseq_fields: dict[str, Any], field: str, value: object
) -> None:
    name = "model" if field == "_name" else field
    with pytest.raises(ValueError, match=f"file.pt: .*{name}: found {value!r}"):
        parse(fairseq_fields | {field: value})


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').abort()",
        "[(512, 10)]",
        "[(512, 10, 5)",
        "512",
        "[(1, 1, 1)] * 1000000000",
        "[(1,1,1)] ** 2",
        "[]",
    ],
)
def test_a_malformed_list_of_convolutions_is_refused(fairseq_fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=r"file.pt: .*conv_feature_layers: found "):
        parse(fairseq_fields | {"conv_feature_layers": text})


@pytest.mark.parametrize("checkpoint", [{}, {"cfg": None, "args": None}, {"cfg": {"model": None}}])
def test_a_file_without_configuration_is_refused(checkpoint: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"file.pt: .*cfg\.model or args"):
        parse_fairseq_config(checkpoint, "file.pt")


def test_a_value_of_another_kind_is_refused(fairseq_fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="file.pt: "):
        parse(fairseq_fields | {"dropout": "${model.other}"})
