"""Measures the resident memory of the main process while it scores many short trials with a tiny countermeasure.

OMP_NUM_THREADS=1 python -m benchmarks.scoring_memory --trials 100000
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click
import numpy as np
import psutil
import soundfile
import torch

from sls.config import AudioConfig, ComputeConfig, ScoringConfig
from sls.data.loading.dataset import TrialDataset
from sls.data.loading.scoring_batches import ScoringBatches
from sls.data.tables.protocols import Trial
from sls.engine.scoring.loop import ScoringJob, score_shard
from sls.models.checkpoints import build_countermeasure

NUM_SAMPLES = 4_000
NUM_FILES = 100
NUM_POINTS = 10


@click.command()
@click.option("--trials", "num_trials", default=100_000, show_default=True)
@click.option("--workers", default=1, show_default=True)
@click.option("--batch-size", default=8, show_default=True)
def main(num_trials: int, workers: int, batch_size: int) -> None:
    """Prints the memory at ten points of the run."""
    process, start_s, done, rng = psutil.Process(), time.perf_counter(), 0, np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for index in range(NUM_FILES):
            noise = rng.normal(0, 0.1, NUM_SAMPLES)
            soundfile.write(directory / f"{index}.wav", noise, 16_000, subtype="PCM_16")
        trials = [Trial(f"t{index}", directory / f"{index % NUM_FILES}.wav") for index in range(num_trials)]
        dataset = TrialDataset(trials, AudioConfig(audio_max_len=NUM_SAMPLES))
        del trials

        def on_batch(amount: int) -> None:
            nonlocal done
            done += amount
            if done * NUM_POINTS // num_trials > (done - amount) * NUM_POINTS // num_trials:
                memory_mib = process.memory_info().rss / 2**20
                print(
                    f"{done:9d} trials {memory_mib:9.1f} MiB {time.perf_counter() - start_s:8.1f} s",
                    flush=True,
                )

        job = ScoringJob(
            build_countermeasure("random:tiny", NUM_SAMPLES, 1),
            ScoringBatches(dataset, batch_size),
            ComputeConfig(num_workers=workers, eval_batch_size=batch_size),
            ScoringConfig(),
            torch.device("cpu"),
            directory / "scores.txt",
            {},
        )
        score_shard(job, on_batch=on_batch)


if __name__ == "__main__":
    main()
