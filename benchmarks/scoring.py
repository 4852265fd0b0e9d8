"""Measures scoring, files included, side by side with the way of the seed system.

    OMP_NUM_THREADS=2 python -m benchmarks.scoring --shape 300m --utterances 8

The seed system's way: fairseq's encoder twice for each batch, the first result thrown away, with gradients recorded,
in batches of 4, files read in the main process. Both ways have the same random weights and FLAC files, and take turns
in one process. `benchmarks.gpu` measures them on a GPU.

Beside the time on the clock stands the processor time of the main process, which other work on the same cores hardly
moves. It compares the ways with one thread and --workers 0 alone: threads that wait count too, and workers do not.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np
import soundfile
import torch

from sls.config import NUM_SAMPLES, SAMPLE_RATE_HZ, AudioConfig, ComputeConfig, ScoringConfig
from sls.data.audio.recording import read_audio
from sls.data.audio.windows import fit_length
from sls.data.loading.dataset import TrialDataset
from sls.data.loading.scoring_batches import ScoringBatches
from sls.data.tables.protocols import Trial
from sls.data.tables.score_files import format_score
from sls.engine.scoring.loop import ScoringJob, StageTimes, score
from sls.models.checkpoints import build_countermeasure
from sls.models.countermeasure import Countermeasure

SEED_BATCH_SIZE = 4


def make_files(directory: Path, count: int) -> list[Trial]:
    """Writes FLAC files of noise, 4.04 s each."""
    rng = np.random.default_rng(11)
    trials = []
    for index in range(count):
        path = directory / f"u{index:06d}.flac"
        soundfile.write(path, rng.normal(0, 0.05, NUM_SAMPLES), SAMPLE_RATE_HZ, subtype="PCM_16")
        trials.append(Trial(path.stem, path))
    return trials


def write_scores(output: Path, trials: list[Trial], scores: np.ndarray) -> None:
    """Writes one line for each trial."""
    lines = [f"{trial.name} {format_score(score)}\n" for trial, score in zip(trials, scores, strict=True)]
    output.write_text("".join(lines), encoding="utf-8")


def score_as_seed(model: Countermeasure, trials: list[Trial], output: Path, device: torch.device) -> None:
    """Two passes, gradients recorded, batches of 4, no workers."""
    scores: list[float] = []
    for start in range(0, len(trials), SEED_BATCH_SIZE):
        scores += score_batch_as_seed(model, trials[start : start + SEED_BATCH_SIZE], device)
    write_scores(output, trials, np.array(scores))


def score_batch_as_seed(model: Countermeasure, trials: list[Trial], device: torch.device) -> list[float]:
    """Reads a batch and runs the encoder twice, with gradients recorded."""
    batch = torch.from_numpy(np.stack([fit_length(read_audio(trial.path)) for trial in trials])).to(device)
    for _ in model.xlsr(batch):
        pass
    return model(batch)[:, 1].detach().cpu().tolist()


def score_ours(
    model: Countermeasure, trials: list[Trial], output: Path, device: torch.device, compute: ComputeConfig
) -> StageTimes:
    """The engine of the score door."""
    batches = ScoringBatches(TrialDataset(trials, AudioConfig()), compute.eval_batch_size)
    job = ScoringJob(model, batches, compute, ScoringConfig(), device, output, {})
    scores, times = np.empty(len(trials), np.float32), StageTimes()
    for batch in score(job, range(len(batches))):
        scores[batch.trials.start : batch.trials.stop] = batch.scores
        times += batch.times
    write_scores(output, trials, scores)
    return times


@click.command()
@click.option("--shape", default="300m", show_default=True, help="random:NAME's NAME")
@click.option("--utterances", default=8, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--batch-size", default=4, show_default=True)
def main(shape: str, utterances: int, repeats: int, workers: int, batch_size: int) -> None:
    """Prints utterances per second of each way, and the ratio to the seed system's."""
    device = torch.device("cpu")
    ours = build_countermeasure(f"random:{shape}", NUM_SAMPLES, 1).eval()
    seed = build_countermeasure(f"random:{shape}", NUM_SAMPLES, 1, "fairseq").eval()
    ways: dict[str, Callable[[list[Trial], Path], StageTimes | None]] = {
        "seed system's way": lambda trials, output: score_as_seed(seed, trials, output, device)
    }
    for precision in ("fp32", "bf16"):
        compute = ComputeConfig(num_workers=workers, eval_batch_size=batch_size, precision=precision)
        ways[f"ours, {precision}"] = partial(score_ours, ours, device=device, compute=compute)
    durations: dict[str, list[float]] = {name: [] for name in ways}
    processor_times: dict[str, list[float]] = {name: [] for name in ways}
    times: dict[str, StageTimes | None] = {}
    with tempfile.TemporaryDirectory() as directory:
        trials = make_files(Path(directory), utterances)
        for name, way in ways.items():
            way(trials[:1], Path(directory) / f"{name}.warm.txt")
        for _ in range(repeats):
            for name, way in ways.items():
                start_s, start_cpu_s = time.perf_counter(), time.process_time()
                times[name] = way(trials, Path(directory) / f"{name}.txt")
                durations[name].append(time.perf_counter() - start_s)
                processor_times[name].append(time.process_time() - start_cpu_s)
    print(
        f"{shape}, {utterances} utterances, {repeats} turns, {torch.get_num_threads()} threads; {cpu_name()}"
    )
    print_ways(utterances, durations, processor_times)
    for name, stages in times.items():
        print(f"{name}: {stages or 'no stages measured'}")


def cpu_name() -> str:
    """Returns the processor's name and the widest instructions that PyTorch uses, as Linux tells them."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    known = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    has_amx = " amx_bf16" in known.get("flags", "")
    name = f"{known.get('model name', '').strip()} (model {known.get('model', '?').strip()})"
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}{', AMX' if has_amx else ''}"


def print_ways(
    num_utterances: int, durations: dict[str, list[float]], processor_times: dict[str, list[float]]
) -> None:
    """Prints the median of each way's turns with their range, and its ratio to the first way, as a table."""
    print(
        "| way | utterances a second | ratio | processor seconds an utterance | ratio |\n|---|---|---|---|---|"
    )
    first = next(iter(durations))
    for name, taken in durations.items():
        rates = [num_utterances / duration for duration in taken]
        costs = [processor_s / num_utterances for processor_s in processor_times[name]]
        ratio = median_ratio(durations[first], taken)
        cpu_ratio = median_ratio(processor_times[first], processor_times[name])
        print(f"| {name} | {_with_range(rates)} | {ratio:.2f} | {_with_range(costs)} | {cpu_ratio:.2f} |")


def _with_range(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def median_ratio(first: list[float], own: list[float]) -> float:
    """Returns the median of the ratios of turns that followed each other."""
    return statistics.median(before / after for before, after in zip(first, own, strict=True))


if __name__ == "__main__":
    main()
