"""Times the built-in conditions: recordings of 4 s per second on one core, and one of ten minutes.

    OMP_NUM_THREADS=1 python -m benchmarks.conditions

What is counted is the CPU time of this process. Memory is the most that an allocation traced by Python or NumPy adds,
that of the recording and of FFmpeg aside.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from pathlib import Path

import click
import numpy as np

from sls.config import NUM_SAMPLES, SAMPLE_RATE_HZ
from sls.data.conditions.conditions import Condition, read_conditions, trial_generator

LONG_S = 600


@click.command()
@click.option("--repeats", default=15, show_default=True, help="Timed recordings of 4 s for each condition.")
@click.option(
    "--path", type=click.Path(path_type=Path), help="Conditions of one's own, beside the built-in ones."
)
@click.option("--long/--no-long", default=True, show_default=True, help="Degrade one of ten minutes, too.")
def main(repeats: int, path: Path | None, long: bool) -> None:
    """Prints one table."""
    short, ten_minutes = _make_speech(NUM_SAMPLES), _make_speech(LONG_S * SAMPLE_RATE_HZ if long else 1)
    conditions = read_conditions(path)
    times: dict[str, list[float]] = {condition.name: [] for condition in conditions}
    for number in range(repeats):
        for condition in conditions:
            times[condition.name].append(_time(condition, short, f"trial {number}"))
    print("| condition | what it does | ms | recordings/s | 10 min, s | MB |\n|---|---|---|---|---|---|")
    for condition in conditions:
        median = statistics.median(times[condition.name])
        long_s = _time(condition, ten_minutes, "long") if long else float("nan")
        peak_mb = _measure_memory(condition, ten_minutes) if long else float("nan")
        columns = f"{1e3 * median:.1f} | {1 / median:,.0f} | {long_s:.1f} | {peak_mb:,.0f}"
        print(f"| {condition.name} | {condition.description} | {columns} |")


def _make_speech(num_samples: int) -> np.ndarray:
    """Returns harmonics under syllables, peak 0.5, with some noise. Shape: `(num_samples,)`, float32."""
    time_s = np.arange(num_samples) / SAMPLE_RATE_HZ
    voiced = np.sin(2 * np.pi * 140 * time_s) ** 5 * np.sin(np.pi * 3 * time_s) ** 2
    return (0.5 * voiced + 0.002 * np.random.default_rng(1).standard_normal(num_samples)).astype(np.float32)


def _time(condition: Condition, waveform: np.ndarray, trial: str) -> float:
    generator = trial_generator(1, condition.name, trial)
    start = time.process_time()
    condition.apply(waveform, generator)
    return time.process_time() - start


def _measure_memory(condition: Condition, waveform: np.ndarray) -> float:
    tracemalloc.start()
    condition.apply(waveform, trial_generator(1, condition.name, "memory"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


if __name__ == "__main__":
    main()
