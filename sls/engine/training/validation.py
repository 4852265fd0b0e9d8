"""Validation: loss, accuracy and EER of a countermeasure on held-out trials."""

import logging
from collections.abc import Callable

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from sls.config import Config
from sls.data.loading.dataset import TrialDataset
from sls.data.loading.loader import load_batches
from sls.data.loading.training_batches import EpochBatches
from sls.data.tables.protocols import Label
from sls.metrics.eer import compute_eer
from sls.models.countermeasure import Countermeasure

logger = logging.getLogger(__name__)


@torch.no_grad()
def validate(
    model: Countermeasure,
    dataset: TrialDataset,
    config: Config,
    epoch: int,
    accelerator: Accelerator,
    on_batch: Callable[[], None] | None = None,
) -> dict[str, float]:
    """Returns loss, accuracy and EER on the validation trials, in evaluation mode.

    Several processes share the trials, and each returns the metrics of all. `on_batch` is called before each
    batch, equally often in all processes; what it raises ends the validation.

    Raises:
        FloatingPointError: A trial has no finite score; names the epoch and the first such trial.
    """
    model.eval()
    batches = EpochBatches(
        dataset,
        batch_size=(config.compute.eval_batch_size or config.training.batch_size) * accelerator.num_processes,
        # Augmented validation (v2) hears the same noise in every epoch, so that the losses of two epochs
        # can be compared; the known reproduction draws it anew.
        epoch=0,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
    )
    num_workers, is_on_gpu = config.compute.num_workers, accelerator.device.type == "cuda"
    scored = []
    for batch in load_batches(batches, range(len(batches)), num_workers, pin_memory=is_on_gpu):
        if on_batch is not None:
            on_batch()
        if not len(batch):
            continue
        with accelerator.autocast():
            log_probs = model(batch.to(accelerator.device).waveforms)
        scored.append((batch.indices.numpy(), log_probs.float().cpu().numpy()))
    found = np.full((len(dataset), len(Label)), np.nan, dtype=np.float32)
    for indices, log_probs in gather_object(scored):
        found[indices] = log_probs
    broken = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(broken):
        raise FloatingPointError(
            f"epoch {epoch}: no finite score of {len(broken)} of {len(dataset)} validation trials; first: "
            f"{dataset.name(broken[0])}"
        )
    return _metrics(torch.from_numpy(found), torch.from_numpy(dataset.labels), config, epoch)


def _metrics(log_probs: torch.Tensor, labels: torch.Tensor, config: Config, epoch: int) -> dict[str, float]:
    scores = log_probs[:, Label.BONAFIDE].double().numpy()
    is_bonafide = labels.numpy() == Label.BONAFIDE
    metrics = {
        "val/loss": _mean_of_batch_losses(log_probs, labels, config),
        "val/accuracy": float((log_probs.argmax(dim=1) == labels).float().mean()),
    }
    if scores.min() == scores.max():
        # A countermeasure that says the same of everything has no EER; training may still recover.
        logger.warning("epoch %d: all validation scores are %g, so there is no EER", epoch, scores[0])
    else:
        metrics["val/eer_percent"] = 100 * compute_eer(scores[is_bonafide], scores[~is_bonafide]).eer
    return metrics


def _mean_of_batch_losses(log_probs: torch.Tensor, labels: torch.Tensor, config: Config) -> float:
    """The validation loss of the known reproduction: a weighted mean within each batch, then over batches.

    A weighted cross entropy is divided by the weights in its batch, so the figure depends on the grouping.
    Groups of `batch_size` in the order of the protocol make it independent of `eval_batch_size`.
    """
    weight = torch.tensor(config.optimizer.loss_weights)
    size = config.training.batch_size
    groups = zip(log_probs.split(size), labels.split(size), strict=True)
    losses = [
        nn.functional.cross_entropy(group, of_group, weight).item() * len(group) for group, of_group in groups
    ]
    return sum(losses) / len(labels)
