"""Scoring: the countermeasure over a list of trials, as a generator of scored batches.

The score of a trial is its log-probability of bona fide speech.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from sls.config import ComputeConfig
from sls.data.dataset import AudioFailure, TrialDataset, make_loader
from sls.data.protocols import Label
from sls.engine.precision import arithmetic


@dataclass(frozen=True)
class ScoredBatch:
    """Scores of some trials of a dataset."""

    indices: np.ndarray
    """Places of the trials in the dataset: `(batch,)` int64."""
    scores: np.ndarray
    """log P(bona fide): `(batch,)` float32."""
    failures: tuple[AudioFailure, ...]
    """Trials whose recordings cannot be read; they have no score."""


def score(
    model: nn.Module, dataset: TrialDataset, compute: ComputeConfig, device: torch.device
) -> Iterator[ScoredBatch]:
    """Scores every trial of a dataset, in its order.

    Args:
        model: waveforms `(batch, num_samples)` to log-probabilities `(batch, 2)`.
        dataset: the trials, not augmented.
        compute: batch size, workers, precision, and how many unreadable recordings to leave out.
        device: where to run the model.

    Raises:
        ValueError: more recordings cannot be read than `max_failures`; or a score that is not finite, with
            its trial.
    """
    model.to(device).eval()
    loader = make_loader(
        dataset,
        batch_size=compute.eval_batch_size,
        epoch=0,
        shuffle=False,
        drop_last=False,
        num_workers=compute.num_workers,
        pin_memory=device.type == "cuda",
        max_failures=compute.max_failures,
    )
    for batch in loader:
        if not len(batch):
            yield ScoredBatch(np.empty(0, np.int64), np.empty(0, np.float32), batch.failures)
            continue
        with torch.inference_mode(), arithmetic(compute.precision, device):
            log_probs = model(batch.waveforms.to(device, non_blocking=True))
        scores = log_probs[:, Label.BONAFIDE].float().cpu().numpy()
        indices = batch.indices.numpy()
        broken = indices[~np.isfinite(scores)]
        if len(broken):
            raise ValueError(f"trial {dataset.name(int(broken[0]))}: the score is not finite")
        yield ScoredBatch(indices, scores, batch.failures)
