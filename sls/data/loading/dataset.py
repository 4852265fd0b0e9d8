"""The trials of any corpus, as the batches of training and of scoring are made of them."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sls.config import AudioConfig, RawBoostConfig
from sls.data.tables.protocols import Trial

UNKNOWN_LABEL = -1
"""Stands for the label of a trial without one."""


class TrialDataset:
    """The trials of any corpus, and what is made of their recordings."""

    def __init__(
        self,
        trials: Sequence[Trial],
        audio: AudioConfig,
        rawboost: RawBoostConfig | None = None,
        seed: int = 0,
    ) -> None:
        """Takes trials in the order of their protocol; raises ValueError for none, or a negative seed."""
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
