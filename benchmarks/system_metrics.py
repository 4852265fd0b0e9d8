"""Measures what recording system metrics costs a training step, and a sample alone.

    OMP_NUM_THREADS=1 python -m benchmarks.system_metrics --shape base --steps 6 --repeats 6 --workers 0

The same training goes on with them and without, one turn each in an order that alternates.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from benchmarks.training import labelled_files, our_way, settings_of
from sls.config_file import build_config
from sls.tracking.active_run import tracked_run
from sls.tracking.run import TrackedRun
from sls.tracking.system_metrics import system_metrics


@click.command()
@click.option("--shape", default="tiny", show_default=True, help="random:NAME's NAME")
@click.option("--steps", default=6, show_default=True)
@click.option("--repeats", default=6, show_default=True)
@click.option("--workers", default=0, show_default=True)
@click.option("--batch-size", default=5, show_default=True)
def main(shape: str, steps: int, repeats: int, workers: int, batch_size: int) -> None:
    """Prints both."""
    config = build_config(settings_of(batch_size, workers))
    with tempfile.TemporaryDirectory() as directory:
        trials = labelled_files(Path(directory), steps * batch_size)
        measure_system_metrics(our_way(shape, trials, config), steps, repeats, Path(directory))


def measure_system_metrics(way: Callable[[], None], num_steps: int, repeats: int, directory: Path) -> None:
    """Prints what recording system metrics adds to the time and to the processor time of a step.

    The sampling interval is that of MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.
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


if __name__ == "__main__":
    main()
