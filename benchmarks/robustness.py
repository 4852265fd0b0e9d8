"""Measures what a condition costs scoring, files included, side by side with plain scoring.

    OMP_NUM_THREADS=1 python -m benchmarks.robustness --shape 300m --condition telephone

Both ways have the same random weights and FLAC files, and take turns in one process. The processor time is that of
this process; with `--workers 0`, the default, all of the work is in it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import click
import torch

from benchmarks.scoring import make_files, median_ratio
from sls.config import NUM_SAMPLES, AudioConfig, ComputeConfig, ScoringConfig
from sls.data.conditions.conditions import Condition, read_conditions
from sls.data.loading.dataset import TrialDataset
from sls.data.loading.scoring_batches import ScoringBatches
from sls.data.tables.protocols import Trial
from sls.engine.scoring.loop import ScoringJob, score
from sls.models.checkpoints import build_countermeasure
from sls.models.countermeasure import Countermeasure


def score_all(
    model: Countermeasure, trials: list[Trial], compute: ComputeConfig, condition: Condition | None
) -> None:
    """The engine of the score door, under a condition or none."""
    batches = ScoringBatches(
        TrialDataset(trials, AudioConfig()), compute.eval_batch_size, condition=condition
    )
    job = ScoringJob(model, batches, compute, ScoringConfig(), torch.device("cpu"), Path("scores.txt"), {})
    for _ in score(job, range(len(batches))):
        pass


@click.command()
@click.option("--shape", default="300m", show_default=True, help="random:NAME's NAME")
@click.option("--condition", "names", default=("telephone",), multiple=True, show_default=True)
@click.option("--utterances", default=8, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--workers", default=0, show_default=True)
@click.option("--batch-size", default=8, show_default=True)
def main(
    shape: str, names: tuple[str, ...], utterances: int, repeats: int, workers: int, batch_size: int
) -> None:
    """Prints seconds for an utterance of each way, and the pace as a share of plain scoring's."""
    model = build_countermeasure(f"random:{shape}", NUM_SAMPLES, 1).eval()
    compute = ComputeConfig(num_workers=workers, eval_batch_size=batch_size)
    ways: dict[str, Condition | None] = {"plain": None}
    ways |= {condition.name: condition for condition in read_conditions(None, names)}
    clock_s: dict[str, list[float]] = {name: [] for name in ways}
    processor_s: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as directory:
        trials = make_files(Path(directory), utterances)
        for condition in ways.values():
            score_all(model, trials[:1], compute, condition)
        for _ in range(repeats):
            for name, condition in ways.items():
                start_s, start_cpu_s = time.perf_counter(), time.process_time()
                score_all(model, trials, compute, condition)
                clock_s[name].append(time.perf_counter() - start_s)
                processor_s[name].append(time.process_time() - start_cpu_s)
    print(f"{shape}, {utterances} utterances, {repeats} turns, {torch.get_num_threads()} threads")
    print("| way | clock s/utt | pace | processor s/utt | pace |\n|---|---|---|---|---|")
    for name in ways:
        cells = []
        for taken in (clock_s, processor_s):
            cells.append(f"{statistics.median(taken[name]) / utterances:.3f}")
            cells.append(f"{median_ratio(taken['plain'], taken[name]):.2f}")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
