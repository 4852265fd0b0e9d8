"""Countermeasures in the form in which others publish them: what its readers are measured and tested on."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sls.models.checkpoints.published import published_names
from sls.models.checkpoints.wrappings import ENCODER_PREFIX
from sls.models.countermeasure import Countermeasure

PARALLEL_PREFIX = "module."  # left by torch.nn.DataParallel


def write_published(
    path: Path, model: Countermeasure, pretraining: Mapping[str, Tensor] | None = None
) -> Path:
    """Writes a countermeasure by fairseq's names behind `module.`, and returns the path.

    A file that came of pre-training holds what served that alone too, given by fairseq's names: a strict loader over
    fairseq asks for it.
    """
    weights = model.portable_state_dict()
    state = {theirs: weights[ours] for ours, theirs in published_names(model).items()}
    state |= {f"{ENCODER_PREFIX}{name}": tensor for name, tensor in (pretraining or {}).items()}
    torch.save({f"{PARALLEL_PREFIX}{name}": t.detach().cpu().clone() for name, t in state.items()}, path)
    return path
