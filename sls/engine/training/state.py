"""Where a training stands, and the file from which it goes on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from sls.data.loading.dataset import TrialDataset
from sls.files import write_whole
from sls.models.checkpoints.pickles import read_pickle
from sls.quotation import count_of

STATE_FILE = "state.pt"
FORMAT = "sls-training/1"


@dataclass
class EpochTally:
    """Sums over the steps of the current epoch."""

    loss_sum: float = 0.0
    num_correct: int = 0
    num_trials: int = 0
    duration_s: float = 0.0
    wait_s: float = 0.0
    """Time spent on waiting for data."""
    learning_rate: float = 0.0
    """That of the encoder at the first step."""
    peak_memory_gib: float = 0.0
    """The most memory that a process which took steps of the epoch has used."""

    def add(self, loss: float, num_correct: int, num_trials: int) -> None:
        """Counts a batch; `loss` is the mean over its trials."""
        self.loss_sum += loss * num_trials
        self.num_correct += num_correct
        self.num_trials += num_trials

    def note_memory(self, peak_gib: float) -> None:
        """Notes the most memory that this process has used."""
        self.peak_memory_gib = max(self.peak_memory_gib, peak_gib)

    def metrics(self) -> dict[str, float]:
        """Returns the metrics of the epoch's training, with means over its trials."""
        return {
            "train/loss": self.loss_sum / self.num_trials,
            "train/accuracy": self.num_correct / self.num_trials,
            "train/lr": self.learning_rate,
            "train/utterances_per_second": self.num_trials / self.duration_s,
            "train/data_wait_share": self.wait_s / self.duration_s,
            "train/duration_s": self.duration_s,
            "train/peak_memory_gib": self.peak_memory_gib,
        }


@dataclass
class Progress:
    """Where a training stands: the next step to take, and what the steps of its epoch have given so far."""

    epoch: int = 0
    batch: int = 0
    """The next batch of the epoch."""
    tally: EpochTally = field(default_factory=EpochTally)
    is_averaged: bool = False
    """Whether the weights of the epoch are in the average, so that only its validation is left."""
    is_ended: bool = False
    """Whether patience or `num_epochs` is at its end."""

    def start_next_epoch(self) -> None:
        """Moves on to the first batch of the next epoch."""
        self.epoch, self.batch, self.tally, self.is_averaged = self.epoch + 1, 0, EpochTally(), False

    def state_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over where another training stood."""
        self.__dict__.update({**state, "tally": EpochTally(**state["tally"])})


def write_state(directory: Path, state: dict[str, Any]) -> Path:
    """Writes a state into a directory, whole or not at all, and returns the file.

    accelerate's own `save_state` is not used: it loads such files by running pickles, and passes over generators
    that it cannot restore with a line in the log.
    """
    path = directory / STATE_FILE
    # Into an open file: by a path, PyTorch does not say why it could not be written.
    with write_whole(path) as temporary, temporary.open("wb") as file:
        torch.save({"format": FORMAT, **state}, file)
    return path


def read_state(directory: Path) -> dict[str, Any]:
    """Reads a state, of which nothing is run; raises FileNotFoundError, or ValueError where it is none."""
    path = directory / STATE_FILE
    if not path.is_file():
        raise FileNotFoundError(f"resume: no file {path}, expected the state of a training")
    state: dict[str, Any] = read_pickle(path)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path}: found no training state, expected format {FORMAT}")
    return state


def trial_digests(train: TrialDataset, validation: TrialDataset | None) -> dict[str, str]:
    """Returns the SHA-256 of the trials, by the name under which a state keeps it."""
    of_training = {"trials": train.digest()}
    return of_training if validation is None else {**of_training, "validation_trials": validation.digest()}


def check_trials(state: Mapping[str, Any], digests: Mapping[str, str]) -> None:
    """Raises ValueError where the trials of a state are not those at hand."""
    for name, digest in digests.items():
        if state.get(name) != digest:
            kind = "training" if name == "trials" else "validation"
            raise ValueError(f"resume: the {kind} trials are not those that the run began with")


def generator_states(accelerator: Accelerator) -> list[dict[str, torch.Tensor]]:
    """Returns the states of PyTorch's generators, process by process; they decide dropout."""
    own = {"cpu": torch.get_rng_state()}
    if accelerator.device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(accelerator.device)
    return list(gather_object([own]))


def restore_generators(states: list[dict[str, torch.Tensor]], accelerator: Accelerator) -> None:
    """Goes on with the generators of a state; raises ValueError where it is of another number of processes."""
    if len(states) != accelerator.num_processes:
        raise ValueError(
            f"resume: the run had {count_of(len(states), 'process', 'processes')}, this launch has "
            f"{accelerator.num_processes}; start as many"
        )
    own = states[accelerator.process_index]
    torch.set_rng_state(own["cpu"])
    if accelerator.device.type == "cuda" and "cuda" in own:
        torch.cuda.set_rng_state(own["cuda"], accelerator.device)
