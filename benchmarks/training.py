"""Measures training steps, files and augmentation included, side by side with the way of the seed system.

    OMP_NUM_THREADS=2 python -m benchmarks.training --shape base --steps 6

The seed system's way: fairseq's encoder twice for each batch, the first result thrown away, fp32, RawBoost in its
direct form in the loader. Both ways have the same shape, random weights, files and number of workers, and take turns
in one process, an epoch of so many steps each. `benchmarks.gpu` measures them on a GPU.

Beside the time on the clock stands the processor time of the main process; see `benchmarks.scoring` for its use.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.rawboost_direct import direct_rawboost
from benchmarks.scoring import cpu_name, make_files, print_ways
from sls.config import NUM_SAMPLES, Config, RawBoostConfig
from sls.config_file import build_config
from sls.data.audio.recording import read_audio
from sls.data.audio.windows import fit_length
from sls.data.loading.dataset import TrialDataset
from sls.data.tables.protocols import Trial
from sls.engine.compute.training_processes import open_accelerator
from sls.engine.training.loop import Training
from sls.models.checkpoints import build_countermeasure
from sls.models.countermeasure import Countermeasure

Item = tuple[np.ndarray, int]


class SeedDataset(Dataset[Item]):
    """Reads a file and augments it by RawBoost in its direct form."""

    def __init__(self, trials: list[Trial]) -> None:
        self.trials = trials

    def __len__(self) -> int:
        return len(self.trials)

    def __getitem__(self, index: int) -> Item:
        """Returns a waveform and its label."""
        waveform = read_audio(self.trials[index].path)
        augmented = direct_rawboost(waveform, RawBoostConfig(), np.random.RandomState(index))
        return fit_length(augmented).astype(np.float32), int(self.trials[index].label or 0)


class SeedWay:
    """The loop of the seed system."""

    def __init__(
        self, model: Countermeasure, trials: list[Trial], config: Config, device: torch.device
    ) -> None:
        self.model, self.config, self.device = model, config, device
        self.loader = DataLoader(
            SeedDataset(trials), config.training.batch_size, num_workers=config.compute.num_workers
        )
        self.loss = nn.CrossEntropyLoss(torch.tensor(config.optimizer.loss_weights, device=device))
        self.optimizer = torch.optim.Adam(model.parameters(), lr=1e-6, weight_decay=1e-4)

    def train(self, on_batch: Callable[[int], None] = lambda size: None) -> None:
        """Trains for one epoch."""
        self.model.train()
        for waveforms, labels in self.loader:
            waveforms = waveforms.to(self.device)
            for _ in self.model.xlsr(waveforms):
                pass
            loss = self.loss(self.model(waveforms), labels.to(self.device))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            loss.item()  # summed up for the log
            on_batch(len(waveforms))


def settings_of(batch_size: int, workers: int) -> dict[str, object]:
    """Returns the settings of a training on a CPU that no patience ends."""
    return {
        "device": "cpu",
        "batch_size": batch_size,
        "num_workers": workers,
        "patience": 1000,
        "num_epochs": 1000,
    }


def labelled_files(directory: Path, count: int) -> list[Trial]:
    """Writes FLAC files of noise, every second one of which is called bona fide."""
    files = enumerate(make_files(directory, count))
    return [Trial(trial.name, trial.path, index % 2) for index, trial in files]


def our_way(shape: str, trials: list[Trial], config: Config) -> Callable[[], None]:
    """Returns what trains one more epoch with the loop of the train door."""
    model = build_countermeasure(f"random:{shape}", NUM_SAMPLES, 1)
    data = TrialDataset(trials, config.audio, config.rawboost)
    epochs = Training(model, data, None, config, open_accelerator(config.compute)).epochs()
    return lambda: print(
        f"  {next(epochs).metrics['train/data_wait_share']:.0%} of the time waiting for data"
    )


@click.command()
@click.option("--shape", default="base", show_default=True, help="random:NAME's NAME")
@click.option("--steps", default=6, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--workers", default=1, show_default=True)
@click.option("--batch-size", default=5, show_default=True)
def main(shape: str, steps: int, repeats: int, workers: int, batch_size: int) -> None:
    """Prints utterances per second of each way, and the ratio to the seed system's."""
    values = settings_of(batch_size, workers)
    seed_model = build_countermeasure(f"random:{shape}", NUM_SAMPLES, 1, "fairseq")
    with tempfile.TemporaryDirectory() as directory:
        trials = labelled_files(Path(directory), steps * batch_size)
        seed = SeedWay(seed_model, trials, build_config(values), torch.device("cpu"))
        ways = {"seed system's way": seed.train}
        for precision in ("fp32", "bf16"):
            ways[f"ours, {precision}"] = our_way(
                shape, trials, build_config({**values, "precision": precision})
            )
        durations: dict[str, list[float]] = {name: [] for name in ways}
        processor_times: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(repeats + 1):
            for name, way in ways.items():
                start_s, start_cpu_s = time.perf_counter(), time.process_time()
                way()
                if turn:  # the first warms up
                    durations[name].append(time.perf_counter() - start_s)
                    processor_times[name].append(time.process_time() - start_cpu_s)
    threads = torch.get_num_threads()
    print(
        f"{shape}, batches of {batch_size}, {repeats} turns of {steps} steps, {threads} threads; {cpu_name()}"
    )
    print_ways(len(trials), durations, processor_times)


if __name__ == "__main__":
    main()
