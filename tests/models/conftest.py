"""Small encoders, and the golden files of the seed system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sls.models.encoder_config import EncoderConfig

NUM_SAMPLES = 7_760  # half a second, the shortest of 24 frames


@pytest.fixture
def small_config() -> EncoderConfig:
    """The layout of XLS-R in miniature, of a shape that no name stands for."""
    return EncoderConfig(
        conv_layers=((16, 10, 5), *[(16, 3, 2)] * 4, *[(16, 2, 2)] * 2),
        dim=24,
        num_layers=3,
        num_heads=3,
        ffn_dim=40,
        pos_conv_kernel=8,
        pos_conv_groups=2,
    )


@pytest.fixture
def fairseq_fields() -> dict[str, Any]:
    """The same encoder in fairseq's words, with what pre-training needs besides."""
    return {
        "extractor_mode": "layer_norm",
        "conv_feature_layers": "[(16, 10, 5)] + [(16, 3, 2)] * 4 + [(16,2,2)] + [(16,2,2)]",
        "conv_bias": True,
        "encoder_embed_dim": 24,
        "encoder_layers": 3,
        "encoder_attention_heads": 3,
        "encoder_ffn_embed_dim": 40,
        "layer_norm_first": True,
        "conv_pos": 8,
        "conv_pos_groups": 2,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "final_dim": 8,
        "quantize_targets": True,
        "latent_vars": 8,
    }


@pytest.fixture
def waveforms() -> Tensor:
    """Three noises of different levels. Shape: `(3, NUM_SAMPLES)`."""
    generator = torch.Generator().manual_seed(5)
    return torch.randn(3, NUM_SAMPLES, generator=generator) * torch.tensor([[0.01], [0.1], [0.4]])


@pytest.fixture
def golden_dir(reference_dir: Path) -> Path:
    """Outputs of the seed system's own code, and the files that it ran on."""
    return reference_dir / "golden"


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """On models this small, threads cost more than they give, above all on a busy machine."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)
