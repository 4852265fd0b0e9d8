"""One Dataset for every corpus, and a loader whose batches do not depend on how many workers make them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from sls.config import AudioConfig, RawBoostConfig
from sls.data.audio.recording import AudioError, read_audio
from sls.data.audio.windows import crop_randomly, draw_crop_start, fit_length
from sls.data.loading.failures import AudioFailure, check_failures
from sls.data.loading.training_batches import TRIAL_STREAM, UNKNOWN_LABEL, Batch, EpochSampler, Example
from sls.data.loading.workers import PREFETCH_BATCHES, prepare_worker
from sls.data.rawboost.algorithms import RawBoostDraws, apply_rawboost, draw_rawboost
from sls.data.rawboost.on_device import DeferredRawBoost
from sls.data.tables.protocols import Trial


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

    def digest(self) -> str:
        """Returns a SHA-256 of the trials and their labels, in their order."""
        return hashlib.sha256(self._names.tobytes() + self.labels.tobytes()).hexdigest()

    def path(self, index: int) -> Path:
        """Returns the path of a trial's recording."""
        return Path(os.fsdecode(self._paths[index]))

    def __getitem__(self, key: tuple[int, int]) -> Example:
        """Reads a recording, augments it and fits its length; (epoch, index) says which.

        Where augmentation is left to the device, it only draws what is random, by the same generator.
        """
        epoch, index = key
        label = int(self.labels[index])
        try:
            waveform = read_audio(self.path(index), self.audio.sample_rate)
        except (AudioError, FileNotFoundError) as error:
            return Example(index, label, None, error)
        rng = np.random.default_rng([TRIAL_STREAM, self.seed, epoch, index])
        if self.rawboost is not None and self.rawboost.rawboost_on == "device":
            draws = draw_rawboost(self.rawboost, len(waveform), rng)
            length = self.audio.audio_max_len
            start = draw_crop_start(len(waveform), length, rng) if self.audio.random_crop else 0
            return Example(index, label, waveform, draws=draws, start=start)
        # The published system augments the whole recording, then fits it.
        if self.rawboost is not None:
            waveform = apply_rawboost(waveform, self.rawboost, rng, self.audio.sample_rate)
        if self.audio.random_crop:
            waveform = crop_randomly(waveform, self.audio.audio_max_len, rng)
        return Example(index, label, fit_length(waveform, self.audio.audio_max_len).astype(np.float32))


class TrialLoader:
    """Yields the batches of one epoch, each made by a worker process ahead of its use.

    Workers hand unreadable recordings over as data, and the error is raised here: torch would put the
    traceback of the worker into the message of an exception that a worker raised.
    """

    def __init__(self, loader: DataLoader[Example], max_failures: int) -> None:
        """Wraps a loader; see `make_loader` for `max_failures`."""
        self._loader = loader
        self._max_failures = max_failures

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        failures: list[AudioFailure] = []
        for batch in self._loader:
            failures += batch.failures
            check_failures(failures, self._max_failures)
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
    max_failures: int = 0,
) -> TrialLoader:
    """Makes the loader of one epoch.

    The batches depend on (seed, epoch, batch_size) alone, not on workers, and after a resume not on where it
    was: training can be repeated. What a failure may cost is the caller's choice; a waveform is never made up.

    Args:
        dataset: the trials.
        batch_size: utterances in a batch, over all ranks together; a multiple of `world_size`.
        epoch: the epoch, from 0; with the dataset's seed it decides order and augmentation.
        shuffle: mix the trials; else they come in the order of the dataset.
        drop_last: leave out the last batch where it is incomplete.
        num_workers: processes that read and augment; 0 works in this one. It does not change the batches.
        start_batch: batches to leave out, unread, at the beginning, to go on in the middle of an epoch.
        rank: which of the `world_size` contiguous parts of each batch to yield.
        world_size: number of parts, all of one size. All ranks get equally many batches; an incomplete last
            one is divided as evenly as can be, and may be empty for some.
        pin_memory: put batches into page-locked memory, for a GPU.
        max_failures: recordings that may be unreadable before it is an error; up to then, batches come
            without them and name them in `failures`. 0: the first one raises.

    Returns:
        An iterable of `Batch`, with a length. Iterating raises AudioError where a recording is missing or
        cannot be read, as one line that names it, also from a worker.

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
        prefetch_factor=PREFETCH_BATCHES if num_workers else None,
        # Otherwise each pass would draw from the global generator, and a resumed epoch make one pass more.
        generator=torch.Generator(),
        worker_init_fn=prepare_worker,
    )
    return TrialLoader(loader, max_failures)


class _Collator:
    """Puts examples together into a batch, in the worker."""

    def __init__(self, dataset: TrialDataset) -> None:
        self._dataset = dataset

    def __call__(self, examples: list[Example]) -> Batch:
        readable = [(example, example.waveform) for example in examples if example.waveform is not None]
        deferred = self._defer(readable)
        num_samples = self._dataset.audio.audio_max_len if deferred is None else 0
        waveforms = np.empty((len(readable), num_samples), dtype=np.float32)
        if deferred is None:
            for row, (_, waveform) in enumerate(readable):
                waveforms[row] = waveform
        return Batch(
            torch.from_numpy(waveforms),
            torch.tensor([example.label for example, _ in readable], dtype=torch.int64),
            torch.tensor([example.index for example, _ in readable], dtype=torch.int64),
            tuple(self._failure(example) for example in examples if example.error is not None),
            deferred,
        )

    def _defer(self, readable: list[tuple[Example, np.ndarray]]) -> DeferredRawBoost | None:
        """Designs the filters here, in the worker, so that the main process only moves tensors."""
        draws: list[RawBoostDraws] = [example.draws for example, _ in readable if example.draws is not None]
        if not draws or self._dataset.rawboost is None:
            return None
        return DeferredRawBoost.prepare(
            [waveform for _, waveform in readable],
            [example.start for example, _ in readable],
            draws,
            self._dataset.rawboost,
            self._dataset.audio.audio_max_len,
            self._dataset.audio.sample_rate,
        )

    def _failure(self, example: Example) -> AudioFailure:
        index = example.index
        return AudioFailure(index, self._dataset.name(index), self._dataset.path(index), str(example.error))
