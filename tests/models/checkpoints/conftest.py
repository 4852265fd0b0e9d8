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

NUM_SAMPLES = 8_000


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
