"""The batches of an epoch of training or validation: which trials are in each, and what a batch holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from sls.data.loading.failures import AudioFailure
from sls.data.rawboost.algorithms import RawBoostDraws
from sls.data.rawboost.on_device import DeferredRawBoost, map_tensors

UNKNOWN_LABEL = -1
"""Stands for the label of a trial without one."""

ORDER_STREAM, TRIAL_STREAM = 1, 2
"""First word of the seeds of order and augmentation: NumPy takes (seed, epoch) and (seed, epoch, 0) as one."""


@dataclass
class Batch:
    """Waveforms of the readable trials, and what became of the others."""

    waveforms: torch.Tensor
    """Shape: `(batch, num_samples)`, float32; `batch` is 0 where no trial of the batch is readable, and
    `num_samples` is 0 as long as the augmentation is `deferred`."""
    labels: torch.Tensor
    """`Label`, or `UNKNOWN_LABEL`. Shape: `(batch,)`, int64."""
    indices: torch.Tensor
    """Place of each trial in the dataset. Shape: `(batch,)`, int64."""
    failures: tuple[AudioFailure, ...] = ()
    """Trials that are not in the batch, since their recordings cannot be read."""
    deferred: DeferredRawBoost | None = None
    """What `to` augments on its device, if that is left to the device."""

    def __len__(self) -> int:
        return len(self.indices)

    def __getstate__(self) -> dict[str, Any]:
        """Lets labels and indices travel from a worker by value.

        A tensor would travel as shared memory, and hold an open file for as long as it is kept: a validation
        that collects the labels of 3,000 batches would run out of them.
        """
        return {**self.__dict__, "labels": self.labels.numpy(), "indices": self.indices.numpy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.labels = torch.from_numpy(state["labels"])
        self.indices = torch.from_numpy(state["indices"])

    def pin_memory(self) -> Batch:
        """Returns the batch in page-locked memory, from which copies to a GPU run beside its work."""
        return map_tensors(self, torch.Tensor.pin_memory)

    def to(self, device: torch.device | str) -> Batch:
        """Returns the batch on a device, augmented there if that was deferred.

        The copy does not block where memory is pinned.
        """

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(device, non_blocking=True)

        on_device = map_tensors(self, moved)
        if on_device.deferred is None:
            return on_device
        return replace(on_device, waveforms=on_device.deferred.apply(), deferred=None)


@dataclass(frozen=True)
class Example:
    """One trial as the countermeasure hears it, or why it cannot."""

    index: int
    label: int
    waveform: np.ndarray | None
    """Shape: `(num_samples,)`, float32; None where the recording cannot be read. The whole recording, as it
    is, where there are `draws`."""
    error: Exception | None = None
    draws: RawBoostDraws | None = None
    """What the training device is to do to the recording."""
    start: int = 0
    """The first sample to keep of it then."""


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """The batches of one epoch, as lists of (epoch, index); their order depends on (seed, epoch) alone."""

    def __init__(
        self,
        num_trials: int,
        *,
        seed: int,
        epoch: int,
        batch_size: int,
        shuffle: bool,
        drop_last: bool,
        start_batch: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Prepares the order; see `make_loader` for the arguments."""
        if batch_size < 1:
            raise ValueError(f"batch_size: found {batch_size}, expected 1 or more")
        if world_size < 1 or batch_size % world_size:
            raise ValueError(
                f"batch_size: found {batch_size}, expected a multiple of the {world_size} processes"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"rank: found {rank}, expected 0 to {world_size - 1}")
        if epoch < 0 or start_batch < 0:
            raise ValueError(f"epoch, start_batch: found {epoch}, {start_batch}, expected 0 or more")
        if drop_last and num_trials < batch_size:
            raise ValueError(f"batch_size: found {batch_size}, expected at most the {num_trials} trials")
        order = np.arange(num_trials)
        if shuffle:
            order = np.random.default_rng([ORDER_STREAM, seed, epoch]).permutation(num_trials)
        self.epoch = epoch
        self._order = order
        self._batch_size = batch_size
        self._rank = rank
        self._world_size = world_size
        last = num_trials - num_trials % batch_size if drop_last else num_trials
        self._starts = range(start_batch * batch_size, last, batch_size)

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for start in self._starts:
            batch = self._order[start : start + self._batch_size]
            first, end = (len(batch) * rank // self._world_size for rank in (self._rank, self._rank + 1))
            yield [(self.epoch, index) for index in batch[first:end].tolist()]
