"""The batches of an epoch of training or validation: which trials are in each, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from sls.config import require
from sls.data.audio.recording import AudioError, read_audio
from sls.data.audio.windows import draw_crop_start, fit_length
from sls.data.loading.dataset import TrialDataset
from sls.data.loading.loader import AudioFailure
from sls.data.rawboost.algorithms import apply_rawboost

ORDER_STREAM, TRIAL_STREAM = 1, 2
"""First word of the seeds of order and augmentation: NumPy takes (seed, epoch) and (seed, epoch, 0) as one."""


@dataclass
class Batch:
    """Waveforms of the readable trials, and what became of the others."""

    waveforms: torch.Tensor
    """Shape: `(batch, num_samples)`, float32; `batch` is 0 where no trial of the batch is readable."""
    labels: torch.Tensor
    """`Label`, or `UNKNOWN_LABEL`. Shape: `(batch,)`, int64."""
    indices: torch.Tensor
    """Place of each trial in the dataset. Shape: `(batch,)`, int64."""
    failures: tuple[AudioFailure, ...] = ()
    """Trials that are not in the batch, since their recordings cannot be read."""

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
        return self._changed(torch.Tensor.pin_memory)

    def to(self, device: torch.device | str) -> Batch:
        """Returns the batch on a device; the copy does not block where memory is pinned."""
        return self._changed(lambda tensor: tensor.to(device, non_blocking=True))

    def _changed(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        return Batch(change(self.waveforms), change(self.labels), change(self.indices), self.failures)


class EpochBatches(Dataset[Batch]):
    """The batches of one epoch, by number; `load_batches` has worker processes make them.

    They depend on (seed, epoch, batch_size) alone, not on workers, and after a resume not on where it was:
    training can be repeated. The augmentation of a trial is drawn from (seed, epoch, index) alone, so that it does
    not matter which worker makes it, or after what.
    """

    def __init__(
        self,
        dataset: TrialDataset,
        *,
        batch_size: int,
        epoch: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Prepares the order.

        Args:
            dataset: The trials.
            batch_size: Utterances in a batch, over all ranks together; a multiple of `world_size`.
            epoch: The epoch, from 0; with the dataset's seed it decides order and augmentation.
            shuffle: Mix the trials; else they come in the order of the dataset.
            drop_last: Leave out the last batch where it is incomplete.
            rank: Which of the `world_size` contiguous parts of each batch to make.
            world_size: Number of parts, all of one size. All ranks get equally many batches; an incomplete
                last one is divided as evenly as can be, and may be empty for some.

        Raises:
            ValueError: a number out of range.
        """
        num_trials = len(dataset)
        require(batch_size >= 1, "batch_size", batch_size, "1 or more")
        is_shared = world_size >= 1 and batch_size % world_size == 0
        require(is_shared, "batch_size", batch_size, f"a multiple of the {world_size} processes")
        require(0 <= rank < world_size, "rank", rank, f"0 to {world_size - 1}")
        require(epoch >= 0, "epoch", epoch, "0 or more")
        is_filled = num_trials >= batch_size or not drop_last
        require(is_filled, "batch_size", batch_size, f"at most {num_trials}, the number of trials")
        order = np.arange(num_trials)
        if shuffle:
            order = np.random.default_rng([ORDER_STREAM, dataset.seed, epoch]).permutation(num_trials)
        self.dataset, self.epoch = dataset, epoch
        self._order = order[: num_trials - num_trials % batch_size] if drop_last else order
        self._batch_size, self._rank, self._world_size = batch_size, rank, world_size

    def __len__(self) -> int:
        return -(-len(self._order) // self._batch_size)

    def members(self, number: int) -> list[int]:
        """Returns the places of a batch's trials in the dataset."""
        whole = self._order[number * self._batch_size :][: self._batch_size]
        first, end = (len(whole) * rank // self._world_size for rank in (self._rank, self._rank + 1))
        return whole[first:end].tolist()

    def __getitem__(self, number: int) -> Batch:
        """Reads the recordings of a batch, and augments them."""
        boost, audio = self.dataset.rawboost, self.dataset.audio
        members = self.members(number)
        waveforms = np.empty((len(members), audio.audio_max_len), np.float32)
        indices: list[int] = []
        failures: list[AudioFailure] = []
        for index in members:
            path = self.dataset.path(index)
            try:
                recording = read_audio(path, audio.sample_rate)
            except (AudioError, FileNotFoundError) as error:
                failures.append(AudioFailure(index, self.dataset.name(index), path, str(error)))
                continue
            rng = np.random.default_rng([TRIAL_STREAM, self.dataset.seed, self.epoch, index])
            # The published system augments the whole recording, then fits it.
            if boost is not None:
                recording = apply_rawboost(recording, boost, rng, audio.sample_rate)
            start = draw_crop_start(len(recording), audio.audio_max_len, rng) if audio.random_crop else 0
            waveforms[len(indices)] = fit_length(recording, audio.audio_max_len, start)
            indices.append(index)
        return Batch(
            torch.from_numpy(waveforms[: len(indices)]),
            torch.from_numpy(self.dataset.labels[indices]),
            torch.tensor(indices, dtype=torch.int64),
            tuple(failures),
        )
