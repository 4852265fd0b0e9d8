"""One Dataset for every corpus, and a loader whose batches do not depend on how many workers make them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from sls.config import AudioConfig, RawBoostConfig
from sls.data.audio import AudioError, crop_randomly, fit_length, read_audio
from sls.data.protocols import Trial
from sls.data.rawboost import apply_rawboost

UNKNOWN_LABEL = -1
"""Stands for the label of a trial without one."""

_ORDER_STREAM, _TRIAL_STREAM = (
    1,
    2,
)  # keep the two uses of a seed apart: NumPy takes [s, e] and [s, e, 0] as one


@dataclass(frozen=True)
class AudioFailure:
    """A recording that could not be read."""

    index: int
    """Place of the trial in the dataset."""
    name: str
    path: Path
    message: str
    """One line that names the file and says why."""


@dataclass
class Batch:
    """Waveforms of the readable trials, and what became of the others."""

    waveforms: torch.Tensor
    """Shape: `(batch, num_samples)`, float32; `batch` is 0 where no trial of the batch is readable."""
    labels: torch.Tensor
    """`Label`, or -1 where it is not known. Shape: `(batch,)`, int64."""
    indices: torch.Tensor
    """Place of each trial in the dataset. Shape: `(batch,)`, int64."""
    failures: tuple[AudioFailure, ...] = ()
    """Trials that are not in the batch, since their recordings cannot be read."""

    def __len__(self) -> int:
        return len(self.indices)

    def pin_memory(self) -> Batch:
        """Returns the batch in page-locked memory, from which copies to a GPU run beside its work."""
        return replace(
            self,
            waveforms=self.waveforms.pin_memory(),
            labels=self.labels.pin_memory(),
            indices=self.indices.pin_memory(),
        )

    def to(self, device: torch.device | str) -> Batch:
        """Returns the batch on a device; the copy does not block where memory is pinned."""
        return replace(
            self,
            waveforms=self.waveforms.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
            indices=self.indices.to(device, non_blocking=True),
        )


@dataclass(frozen=True)
class Example:
    """One trial as the countermeasure hears it, or why it cannot."""

    index: int
    label: int
    waveform: np.ndarray | None
    """Shape: `(num_samples,)`, float32; None where the recording cannot be read."""
    error: AudioError | FileNotFoundError | None = None


class TrialDataset(Dataset[Example]):
    """The trials of any corpus; an item is asked for by (epoch, index).

    The augmentation of a trial is drawn from (seed, epoch, index) alone, so that it does not matter which
    worker makes it, or after what.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        audio: AudioConfig,
        rawboost: RawBoostConfig | None = None,
        seed: int = 0,
    ) -> None:
        """Prepares a dataset.

        Args:
            trials: the trials, in the order of their protocol.
            audio: sampling rate, length, and whether to crop at random.
            rawboost: the augmentation; None, or algorithm 0, for none.
            seed: seed of order and augmentation.

        Raises:
            ValueError: there are no trials, or the seed is negative.
        """
        if not trials:
            raise ValueError("trials: found none, expected one at least")
        if seed < 0:
            raise ValueError(f"seed: found {seed}, expected 0 or more")
        # Arrays of bytes, not 600,000 Python objects: reading those in a worker would copy their pages.
        self._names = np.array([trial.name.encode() for trial in trials])
        self._paths = np.array([os.fsencode(trial.path) for trial in trials])
        labels = [UNKNOWN_LABEL if trial.label is None else int(trial.label) for trial in trials]
        self.labels = np.array(labels, dtype=np.int64)
        self.audio = audio
        self.rawboost = rawboost if rawboost is not None and rawboost.algo != 0 else None
        self.seed = seed

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, index: int) -> str:
        """Returns the name of a trial."""
        return self._names[index].decode()

    def path(self, index: int) -> Path:
        """Returns the path of a trial's recording."""
        return Path(os.fsdecode(self._paths[index]))

    def __getitem__(self, key: tuple[int, int]) -> Example:
        """Reads a recording, augments it and fits its length; (epoch, index) says which."""
        epoch, index = key
        label = int(self.labels[index])
        try:
            waveform = read_audio(self.path(index), self.audio.sample_rate)
        except (AudioError, FileNotFoundError) as error:
            return Example(index, label, None, error)
        rng = np.random.default_rng([_TRIAL_STREAM, self.seed, epoch, index])
        # The published system augments the whole recording, then fits it.
        if self.rawboost is not None:
            waveform = apply_rawboost(waveform, self.rawboost, rng, self.audio.sample_rate)
        if self.audio.random_crop:
            waveform = crop_randomly(waveform, self.audio.audio_max_len, rng)
        return Example(index, label, fit_length(waveform, self.audio.audio_max_len).astype(np.float32))


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
        if not 0 <= rank < world_size:
            raise ValueError(f"rank: found {rank}, expected 0 to {world_size - 1}")
        if epoch < 0 or start_batch < 0:
            raise ValueError(f"epoch, start_batch: found {epoch}, {start_batch}, expected 0 or more")
        if drop_last and num_trials < batch_size:
            raise ValueError(f"batch_size: found {batch_size}, expected at most the {num_trials} trials")
        order = np.arange(num_trials)
        if shuffle:
            order = np.random.default_rng([_ORDER_STREAM, seed, epoch]).permutation(num_trials)
        self.epoch = epoch
        self._order = order
        self._batch_size = batch_size
        self._part = slice(rank, None, world_size)
        last = num_trials - num_trials % batch_size if drop_last else num_trials
        self._starts = range(start_batch * batch_size, last, batch_size)

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for start in self._starts:
            batch = self._order[start : start + self._batch_size][self._part]
            yield [(self.epoch, index) for index in batch.tolist()]


class TrialLoader:
    """Yields the batches of one epoch, each made by a worker process ahead of its use."""

    def __init__(self, loader: DataLoader[Example], skip_unreadable: bool) -> None:
        self._loader = loader
        self._skip_unreadable = skip_unreadable

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            if batch.failures and not self._skip_unreadable:
                raise AudioError(batch.failures[0].message)
            yield batch


def make_loader(
    dataset: TrialDataset,
    *,
    batch_size: int,
    epoch: int = 0,
    shuffle: bool = False,
    drop_last: bool = False,
    num_workers: int = 0,
    start_batch: int = 0,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
    skip_unreadable: bool = False,
    prefetch_batches: int = 4,
) -> TrialLoader:
    """Makes the loader of one epoch.

    Args:
        dataset: the trials.
        batch_size: utterances in a batch, over all ranks together.
        epoch: the epoch, from 0; with the dataset's seed it decides order and augmentation.
        shuffle: mix the trials; else they come in the order of the dataset.
        drop_last: leave out the last batch where it is incomplete.
        num_workers: processes that read and augment; 0 works in this one. It does not change the batches.
        start_batch: batches to leave out at the beginning, to go on in the middle of an epoch.
        rank: which part of each batch to yield: trials rank, rank + world_size, ... of it.
        world_size: number of parts. All ranks get equally many batches; the last may be empty for some.
        pin_memory: put batches into page-locked memory, for a GPU.
        skip_unreadable: yield batches without the trials that cannot be read, and these in `failures`; else
            the first one raises.
        prefetch_batches: batches that each worker makes ahead.

    Returns:
        An iterable of `Batch`, with a length. Iterating raises AudioError for a recording that cannot be read
        (FileNotFoundError where it is missing), as one line that names it, also from a worker.

    Raises:
        ValueError: a number out of range.
    """
    sampler = EpochSampler(
        len(dataset),
        seed=dataset.seed,
        epoch=epoch,
        batch_size=batch_size,
        shuffle=shuffle,
        drop_last=drop_last,
        start_batch=start_batch,
        rank=rank,
        world_size=world_size,
    )
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=_Collator(dataset),
        pin_memory=pin_memory,
        prefetch_factor=prefetch_batches if num_workers else None,
        worker_init_fn=_prepare_worker,
    )
    return TrialLoader(loader, skip_unreadable)


class _Collator:
    """Puts examples together into a batch, in the worker."""

    def __init__(self, dataset: TrialDataset) -> None:
        self._dataset = dataset

    def __call__(self, examples: list[Example]) -> Batch:
        readable = [(example, example.waveform) for example in examples if example.waveform is not None]
        num_samples = self._dataset.audio.audio_max_len
        waveforms = np.empty((len(readable), num_samples), dtype=np.float32)
        for row, (_, waveform) in enumerate(readable):
            waveforms[row] = waveform
        return Batch(
            torch.from_numpy(waveforms),
            torch.tensor([example.label for example, _ in readable], dtype=torch.int64),
            torch.tensor([example.index for example, _ in readable], dtype=torch.int64),
            tuple(self._failure(example) for example in examples if example.error is not None),
        )

    def _failure(self, example: Example) -> AudioFailure:
        index = example.index
        return AudioFailure(index, self._dataset.name(index), self._dataset.path(index), str(example.error))


def _prepare_worker(worker: int) -> None:
    """Leaves signals to the main process, and one core to each worker."""
    del worker
    torch.set_num_threads(1)
    # Ctrl+C reaches every process of the terminal; the main one ends its workers. The handler by which it
    # records that it was ended was inherited, and must not run in a worker.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
