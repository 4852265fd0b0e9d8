"""Batches for scoring: by number, so that each is the same whoever makes it, and long recordings in windows."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from sls.config import Resampler
from sls.data.audio.decoders import UNREADABLE, one_line
from sls.data.audio.recording import AudioError, read_recording
from sls.data.audio.warnings import warn_of_waveform
from sls.data.audio.windows import check_hop, cut_windows
from sls.data.conditions.conditions import Condition, trial_generator
from sls.data.loading.dataset import TrialDataset
from sls.data.loading.loader import AudioFailure


@dataclass
class ScoringBatch:
    """The windows of some trials that lie side by side in the list, and how long it took to get them."""

    trials: range
    """Places of the trials in the dataset."""
    windows: torch.Tensor
    """Shape: `(windows, num_samples)`, float32, in the order of the trials."""
    window_counts: np.ndarray
    """Windows of each trial; 0 where its recording cannot be read. Shape: `(trials,)`."""
    warnings: list[list[str]]
    """Of each trial, what makes its score less sure: see `sls.data.audio.warnings`."""
    failures: tuple[AudioFailure, ...]
    read_s: float
    """Seconds in which files were read."""
    decode_s: float
    """Seconds in which they were decoded, resampled and cut."""

    def pin_memory(self) -> ScoringBatch:
        """Returns the batch in page-locked memory, from which copies to a GPU run beside its work."""
        return replace(self, windows=self.windows.pin_memory())


class ScoringBatches(Dataset[ScoringBatch]):
    """The batches of a list of trials, for `load_batches`: batch k holds trials k * batch_size and on.

    Args:
        trials: The trials.
        batch_size: Trials in a batch.
        window_hop: See `cut_windows`.
        resampler: See `read_audio`.
        condition: What degrades each recording before it is cut; None scores them as they are.

    Raises:
        ValueError: a hop longer than a window.
    """

    def __init__(
        self,
        trials: TrialDataset,
        batch_size: int,
        window_hop: int = 0,
        resampler: Resampler = "soxr",
        condition: Condition | None = None,
    ) -> None:
        check_hop(window_hop, trials.audio.audio_max_len)
        self.trials, self.batch_size = trials, batch_size
        self.window_hop, self.resampler, self.condition = window_hop, resampler, condition

    def __len__(self) -> int:
        return -(-len(self.trials) // self.batch_size)

    def members(self, number: int) -> range:
        """Returns the places of a batch's trials."""
        start = number * self.batch_size
        return range(start, min(start + self.batch_size, len(self.trials)))

    def __getitem__(self, number: int) -> ScoringBatch:
        """Reads the recordings of a batch."""
        members = self.members(number)
        audio = self.trials.audio
        windows: list[np.ndarray] = []
        warnings: list[list[str]] = []
        failures: list[AudioFailure] = []
        read_s = decode_s = 0.0
        for index in members:
            path = self.trials.path(index)
            start_s = time.perf_counter()
            try:
                content = path.read_bytes()
                after_reading_s = time.perf_counter()
                recording = read_recording(content, audio.sample_rate, str(path), self.resampler)
                waveform = self._degrade(recording.waveform, self.trials.name(index), path)
                heard = cut_windows(waveform, audio.audio_max_len, self.window_hop)
                windows.append(heard)
                num_heard = len(recording.waveform) if self.window_hop else audio.audio_max_len
                of_file = recording.file_warnings(num_heard)
                warnings.append([*of_file, *warn_of_waveform(heard.reshape(-1), audio.sample_rate)])
            except (AudioError, OSError, MemoryError) as error:
                failures.append(AudioFailure(index, self.trials.name(index), path, _describe(error, path)))
                windows.append(np.empty((0, audio.audio_max_len), np.float32))
                warnings.append([])
                continue
            read_s += after_reading_s - start_s
            decode_s += time.perf_counter() - after_reading_s
        counts = np.array([len(of_trial) for of_trial in windows])
        stacked = torch.from_numpy(np.concatenate(windows))
        return ScoringBatch(members, stacked, counts, warnings, tuple(failures), read_s, decode_s)

    def _degrade(self, waveform: np.ndarray, trial: str, path: Path) -> np.ndarray:
        if self.condition is None:
            return waveform
        name = self.condition.name
        try:
            return self.condition.apply(waveform, trial_generator(self.trials.seed, name, trial))
        except UNREADABLE as error:
            raise AudioError(f"{path}: condition {name}: {one_line(error)}") from None


def _describe(error: Exception, path: object) -> str:
    if isinstance(error, AudioError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return f"{path}: no such file"
    return f"{path}: {getattr(error, 'strerror', None) or error}"
