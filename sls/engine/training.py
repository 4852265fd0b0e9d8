"""The training loop: a generator of epochs that records nothing itself.

for epoch in fit(model, train, validation, config, device):
    record(epoch)
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from sls.config import Config
from sls.data.dataset import Batch, TrialDataset, make_loader
from sls.data.protocols import Label
from sls.engine.optimizer import make_optimizer, make_schedule
from sls.engine.stopping import MONITORED_METRICS, EarlyStopping
from sls.metrics.det import compute_eer
from sls.models.countermeasure import Countermeasure

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave."""

    epoch: int
    """Epochs count from 0."""
    metrics: Mapping[str, float]
    """Values by metric name: `train/loss`, `val/eer_percent` and so on."""
    is_best: bool
    """Whether the monitored loss is the lowest so far."""
    is_last: bool
    """Whether training ends here."""


@dataclass(frozen=True)
class StepResult:
    """What one step gave."""

    epoch: int
    step: int
    """Steps since the beginning of training, from 0."""
    num_steps: int
    """Steps in an epoch."""
    loss: float


def fit(
    model: Countermeasure,
    train: TrialDataset,
    validation: TrialDataset | None,
    config: Config,
    device: torch.device,
    on_step: Callable[[StepResult], None] | None = None,
) -> Iterator[EpochResult]:
    """Trains until patience or `num_epochs` is at its end, and yields after each epoch.

    Args:
        model: waveforms `(batch, num_samples)` to log-probabilities `(batch, 2)`. Trained in place: while
            the caller holds a yielded epoch, the model has that epoch's weights.
        train: the training trials, augmented as the dataset says.
        validation: the validation trials, or None.
        config: the experiment's configuration.
        device: where to train.
        on_step: called after each step.

    Raises:
        FloatingPointError: the loss is not finite; the message names the epoch, the step and the trials.
        ValueError: fewer training trials than one batch has.
    """
    training = config.training
    if len(train) < training.batch_size:
        raise ValueError(
            f"batch_size: found {training.batch_size}, but there are {len(train)} training trials"
        )
    model.to(device)
    loss_function = nn.CrossEntropyLoss(torch.tensor(config.optimizer.loss_weights, device=device))
    num_steps = training.num_epochs * (len(train) // training.batch_size)
    optimizer = make_optimizer(model, config.optimizer)
    schedule = make_schedule(optimizer, config.optimizer, num_steps)
    stopping = EarlyStopping(training.patience)
    for epoch in range(training.num_epochs):
        metrics = train_epoch(
            model, train, loss_function, optimizer, schedule, config, epoch, device, on_step
        )
        if validation is not None:
            metrics |= validate(model, validation, config, epoch, device)
        is_best = stopping.update(epoch, metrics[MONITORED_METRICS[training.monitor]])
        is_last = stopping.should_stop or epoch == training.num_epochs - 1
        yield EpochResult(epoch, metrics, is_best, is_last)
        if is_last:
            return


def train_epoch(
    model: Countermeasure,
    dataset: TrialDataset,
    loss_function: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    config: Config,
    epoch: int,
    device: torch.device,
    on_step: Callable[[StepResult], None] | None = None,
) -> dict[str, float]:
    """Trains for one epoch and returns its metrics, with losses and accuracies meant over its trials."""
    model.train()
    learning_rate = optimizer.param_groups[0]["lr"]
    loader = make_loader(
        dataset,
        batch_size=config.training.batch_size,
        epoch=epoch,
        shuffle=True,
        drop_last=True,
        num_workers=config.compute.num_workers,
        pin_memory=device.type == "cuda",
    )
    num_steps = len(loader)
    loss_sum, num_correct, num_trials = 0.0, 0, 0
    start_s = time.perf_counter()
    for index, batch in enumerate(loader):
        labels = batch.labels.to(device, non_blocking=True)
        log_probs = model(batch.waveforms.to(device, non_blocking=True))
        loss = loss_function(log_probs, labels)
        loss_value = loss.item()
        _require_finite(loss_value, dataset, batch, epoch, index)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        loss_sum += loss_value * len(labels)
        num_correct += int((log_probs.argmax(dim=1) == labels).sum())
        num_trials += len(labels)
        if on_step is not None:
            on_step(StepResult(epoch, epoch * num_steps + index, num_steps, loss_value))
    return {
        "train/loss": loss_sum / num_trials,
        "train/accuracy": num_correct / num_trials,
        "train/lr": learning_rate,
        "train/utterances_per_second": num_trials / (time.perf_counter() - start_s),
    }


@torch.no_grad()
def validate(
    model: Countermeasure, dataset: TrialDataset, config: Config, epoch: int, device: torch.device
) -> dict[str, float]:
    """Returns loss, accuracy and EER on the validation trials, in evaluation mode."""
    model.eval()
    loader = make_loader(
        dataset,
        batch_size=config.compute.eval_batch_size or config.training.batch_size,
        # Augmented validation (v2) hears the same noise in every epoch, so that the losses of two epochs
        # can be compared; the known reproduction draws it anew.
        epoch=0,
        shuffle=False,
        drop_last=False,
        num_workers=config.compute.num_workers,
        pin_memory=device.type == "cuda",
    )
    all_log_probs, all_labels = [], []
    for batch in loader:
        all_log_probs.append(model(batch.waveforms.to(device, non_blocking=True)).cpu())
        all_labels.append(batch.labels)
    log_probs, labels = torch.cat(all_log_probs), torch.cat(all_labels)
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


def _require_finite(loss: float, dataset: TrialDataset, batch: Batch, epoch: int, step: int) -> None:
    if not math.isfinite(loss):
        names = ", ".join(dataset.name(index) for index in batch.indices.tolist())
        raise FloatingPointError(
            f"the loss is {loss} in epoch {epoch}, step {step}; trials of the batch: {names}"
        )
