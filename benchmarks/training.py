"""Measures training steps, files and augmentation included, side by side with the way of the seed system.

    OMP_NUM_THREADS=2 python -m benchmarks.training --shape base --steps 6
    python -m benchmarks.training --shape 300m --device cuda --steps 100 --workers 16 --batch-size 5 --with-compiled
    OMP_NUM_THREADS=1 python -m benchmarks.training --shape base --steps 6 --repeats 6 --workers 0 --system-metrics

The seed system's way: fairseq's encoder twice for each batch, the first result thrown away, fp32, RawBoost in its
direct form in the loader. Both ways have the same shape, random weights, files and number of workers, and take turns
in one process, an epoch of so many steps each.

Beside the time on the clock stands the processor time of the main process; see `benchmarks.scoring` for its use.

With `--system-metrics` our way takes turns with itself, while MLflow's system metrics are recorded as in a training.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.rawboost_direct import direct_rawboost
from benchmarks.scoring import make_files, median_ratio
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
from sls.tracking.active_run import tracked_run
from sls.tracking.run import TrackedRun
from sls.tracking.system_metrics import system_metrics

GFLOP_PER_UTTERANCE = 450
"""Forward and backward, of the 300M shape; given, not measured."""

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

    def epoch(self) -> None:
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


def our_way(shape: str, trials: list[Trial], config: Config) -> Callable[[], None]:
    """Returns what trains one more epoch with the loop of the train door."""
    model = build_countermeasure(f"random:{shape}", NUM_SAMPLES, 1)
    data = TrialDataset(trials, config.audio, config.rawboost)
    epochs = Training(model, data, None, config, open_accelerator(config.compute)).epochs()
    return lambda: print(
        f"  {next(epochs).metrics['train/data_wait_share']:.0%} of the time waiting for data"
    )


def measure_system_metrics(way: Callable[[], None], num_steps: int, repeats: int, directory: Path) -> None:
    """Prints what recording system metrics adds to the time and to the processor time of a step.

    The same training goes on in both, one turn each in an order that alternates. The sampling interval is that of
    MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.
    """
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{directory / 'mlflow.db'}"
    os.environ["SLS_JOURNAL_DIR"] = str(directory / "journal")
    taken: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    with tracked_run("train", journal=True) as run:
        way()
        for turn in range(repeats):
            for is_recorded in (False, True) if turn % 2 == 0 else (True, False):
                os.environ["MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"] = str(is_recorded).lower()
                start_s, start_cpu_s = time.perf_counter(), time.process_time()
                with system_metrics(run, "train"):
                    way()
                spent = time.perf_counter() - start_s, time.process_time() - start_cpu_s
                taken[is_recorded].append(spent)
        os.environ["MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"] = "false"
    print(
        f"{repeats} pairs of turns of {num_steps} steps, {count_samples(run)} samples in the turns that record"
    )
    for place, name in enumerate(("on the clock", "processor time")):
        plain, recorded = ([spent[place] for spent in taken[is_recorded]] for is_recorded in (False, True))
        print(f"{name:<16}{statistics.median(plain) / num_steps:8.3f} s a step without", end="")
        print(f"{percent_more(plain, recorded)}; turns without against each other {spread_percent(plain)}")
    measure_samples_alone()


def measure_samples_alone(interval_s: float = 0.2, duration_s: float = 20.0) -> None:
    """Prints the processor time of a sample, taken, written down and sent, while nothing else is done."""
    with tracked_run("train", journal=True) as run:
        time.sleep(2)  # until what the run begins with has been sent
        os.environ["MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"] = str(interval_s)
        os.environ["MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"] = "true"
        start_cpu_s = time.process_time()
        with system_metrics(run, "train"):
            time.sleep(duration_s)
        spent_s = time.process_time() - start_cpu_s
    num_samples = count_samples(run)
    each_s = spent_s / num_samples
    print(
        f"a sample alone: {each_s:.4f} processor s (of {num_samples}); each 10 s, {each_s / 10:.2%} of a core"
    )


def count_samples(run: TrackedRun) -> int:
    """Returns how many samples have reached the tracking store."""
    return len(run.client.get_metric_history(run.run_id, "system/cpu_utilization_percentage"))


def percent_more(before: Sequence[float], after: Sequence[float]) -> str:
    """Returns the median of the differences of pairs, with their range."""
    more = sorted(100 * (later / earlier - 1) for earlier, later in zip(before, after, strict=True))
    return f"  {statistics.median(more):+6.2f} % with ({more[0]:+.2f} to {more[-1]:+.2f})"


def spread_percent(values: Sequence[float]) -> str:
    """Returns how far values lie from their median."""
    middle = statistics.median(values)
    return f"{100 * (min(values) / middle - 1):+.2f} to {100 * (max(values) / middle - 1):+.2f} %"


@click.command()
@click.option("--shape", default="base", show_default=True, help="random:NAME's NAME")
@click.option("--steps", default=6, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--workers", default=1, show_default=True)
@click.option("--batch-size", default=5, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--rawboost-on", default="loader", show_default=True)
@click.option("--with-compiled", is_flag=True, help="Compiled layers too, which takes a minute at the start.")
@click.option("--system-metrics", "is_watched", is_flag=True, help="Instead: what these cost our way.")
def main(
    shape: str,
    steps: int,
    repeats: int,
    workers: int,
    batch_size: int,
    device: str,
    rawboost_on: str,
    with_compiled: bool,
    is_watched: bool,
) -> None:
    """Prints utterances per second of each way, and the ratio to the seed system's."""
    values = {
        "device": device,
        "batch_size": batch_size,
        "num_workers": workers,
        "patience": 1000,
        "num_epochs": 1000,
        "rawboost_on": rawboost_on,
    }
    torch_device = torch.device(device)
    with tempfile.TemporaryDirectory() as directory:
        trials = [
            Trial(trial.name, trial.path, index % 2)
            for index, trial in enumerate(make_files(Path(directory), steps * batch_size))
        ]
        if is_watched:
            way = our_way(shape, trials, build_config(values))
            measure_system_metrics(way, steps, repeats, Path(directory))
            return
        seed_model = build_countermeasure(f"random:{shape}", NUM_SAMPLES, 1, "fairseq").to(torch_device)
        seed = SeedWay(seed_model, trials, build_config(values), torch_device)
        ways = {"seed system's way": seed.epoch}
        for precision in ("fp32", "bf16") if device == "cpu" else ("fp32", "tf32", "bf16"):
            for is_compiled in (False, True) if with_compiled else (False,):
                config = build_config({**values, "precision": precision, "compile": is_compiled})
                name = f"ours, {precision}{', compiled' if is_compiled else ''}"
                ways[name] = our_way(shape, trials, config)
        durations: dict[str, list[float]] = {name: [] for name in ways}
        processor_times: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(repeats + 1):
            for name, way in ways.items():
                start_s, start_cpu_s = time.perf_counter(), time.process_time()
                way()
                if turn:  # the first warms up
                    durations[name].append(time.perf_counter() - start_s)
                    processor_times[name].append(time.process_time() - start_cpu_s)
    first = "seed system's way"
    print(f"{shape}, batches of {batch_size}, {repeats} turns of {steps} steps, {device}")
    for name, taken in durations.items():
        rate = len(trials) / statistics.median(taken)
        cpu_s = statistics.median(processor_times[name]) / len(trials)
        cpu_ratio = median_ratio(processor_times[first], processor_times[name])
        print(f"{name:<24}{rate:9.2f} utt/s  {median_ratio(durations[first], taken):5.2f}x", end="")
        print(f"{cpu_s:9.2f} processor s/utt  {cpu_ratio:5.2f}x")
        if device == "cuda" and shape == "300m":
            print(f"{'':<24}{rate * GFLOP_PER_UTTERANCE / 1000:9.1f} TFLOP/s")


if __name__ == "__main__":
    main()
