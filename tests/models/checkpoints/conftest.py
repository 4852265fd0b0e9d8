"""Files of weights as others write them, in miniature and without fairseq."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sls.models.checkpoints import build_countermeasure
from sls.models.checkpoints.names import fairseq_names
from sls.models.countermeasure import Countermeasure
from sls.models.encoder_config import EncoderConfig
from sls.models.xlsr import Xlsr

NUM_SAMPLES = 7_760


@pytest.fixture
def fairseq_state(small_config: EncoderConfig) -> dict[str, Tensor]:
    """Weights by fairseq's names, with those that serve pre-training alone."""
    torch.manual_seed(6)
    weights = Xlsr(small_config).state_dict()
    state = {theirs: weights[ours] for ours, theirs in fairseq_names(small_config).items()}
    return state | {
        "mask_emb": torch.rand(24),
        "quantizer.vars": torch.rand(1, 16, 4),
        "quantizer.weight_proj.weight": torch.rand(16, 16),
        "quantizer.weight_proj.bias": torch.rand(16),
        "project_q.weight": torch.rand(8, 8),
        "project_q.bias": torch.rand(8),
        "final_proj.weight": torch.rand(8, 24),
        "final_proj.bias": torch.rand(8),
    }


@pytest.fixture
def write_fairseq(
    tmp_path: Path, fairseq_fields: dict[str, Any], fairseq_state: dict[str, Tensor]
) -> Callable[..., Path]:
    """Writes a pre-training file as fairseq does; changes replace parts of its content."""

    def write(**changes: Any) -> Path:
        content = {
            "args": None,
            "cfg": {"model": {"_name": "wav2vec2", **fairseq_fields}},
            "model": fairseq_state,
        }
        path = tmp_path / "xlsr.pt"
        torch.save({**content, **changes}, path)
        return path

    return write


@pytest.fixture
def model(write_fairseq: Callable[..., Path]) -> Countermeasure:
    """A countermeasure on the small pre-trained encoder."""
    return build_countermeasure(write_fairseq(), NUM_SAMPLES, seed=2).eval()


@pytest.fixture
def huggingface_config() -> dict[str, Any]:
    """What config.json says of the small encoder: the fields of facebook/wav2vec2-xls-r-300m, no dropout."""
    return {
        "model_type": "wav2vec2",
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 40,
        "conv_dim": [16] * 7,
        "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
        "conv_stride": [5, 2, 2, 2, 2, 2, 2],
        "conv_bias": True,
        "feat_extract_norm": "layer",
        "feat_extract_activation": "gelu",
        "hidden_act": "gelu",
        "do_stable_layer_norm": True,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "feat_proj_dropout": 0.0,
        "layerdrop": 0.0,
        "layer_norm_eps": 1e-05,
        "apply_spec_augment": True,
        "mask_time_prob": 0.075,
    }


@pytest.fixture
def huggingface_state(fairseq_state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the small encoder by Hugging Face's names, with those that pre-training needs."""
    return {huggingface_name(name): tensor.contiguous() for name, tensor in fairseq_state.items()}


def huggingface_name(name: str) -> str:
    """The name that Hugging Face gives to a weight of fairseq, as its conversion script maps them."""
    if name == "mask_emb":
        return "wav2vec2.masked_spec_embed"
    if name.startswith(("quantizer.", "project_q.", "final_proj.")):
        return name.replace("quantizer.vars", "quantizer.codevectors").replace("final_proj.", "project_hid.")
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
