"""Times RawBoost against its direct form, side by side, and shows where the time goes.

    OMP_NUM_THREADS=1 python -m benchmarks.rawboost

All forms take turns of a few calls on the same waveform, with equal generators, in one thread. What is counted
is the CPU time of that thread, so that other work on the machine disturbs less.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import click
import numpy as np

from benchmarks.rawboost_direct import direct_rawboost
from sls.config import RawBoostConfig
from sls.data.rawboost.algorithms import apply_rawboost, white_noise
from sls.data.rawboost.filters import draw_filters, filter_powers, zero_phase_response

ALGORITHM_NAMES = {1: "LnL", 2: "ISD", 3: "SSI", 4: "LnL, ISD, SSI", 8: "LnL and ISD in parallel"}


@click.command()
@click.option("--repeats", default=200, show_default=True, help="Timed calls of each form.")
@click.option("--turn", default=10, show_default=True, help="Calls of one form before the next has its turn.")
@click.option("--num-samples", default=64_600, show_default=True, help="Length of a waveform.")
def main(repeats: int, turn: int, num_samples: int) -> None:
    """Prints three tables: speed, parity and stages."""
    time_s = np.arange(num_samples) / 16_000
    envelope = np.sin(np.pi * 2 * time_s) ** 2
    waveform = (0.9 * np.sin(2 * np.pi * 200 * time_s) ** 5 * envelope).astype(np.float32)
    _compare(waveform, repeats, turn)
    _show_parity(waveform, max(repeats // 10, 5))
    _show_stages(waveform, repeats, turn)


def _compare(waveform: np.ndarray, repeats: int, turn: int) -> None:
    print("\n| algorithm | generator | direct ms | ours ms | ratio of medians |\n|---|---|---|---|---|")
    for algo, name in ALGORITHM_NAMES.items():
        params = RawBoostConfig(algo=algo)
        for make in (np.random.default_rng, np.random.RandomState):
            rngs = make(1), make(1)
            direct, ours = _alternate(
                {
                    "direct": lambda p=params, r=rngs[0]: direct_rawboost(waveform, p, r),
                    "ours": lambda p=params, r=rngs[1]: apply_rawboost(waveform, p, r),
                },
                repeats,
                turn,
            ).values()
            kind = type(rngs[0]).__name__
            print(f"| {algo} {name} | {kind} | {direct:.2f} | {ours:.2f} | {direct / ours:.1f} |")


def _show_parity(waveform: np.ndarray, seeds: int) -> None:
    print("\n| algorithm | greatest difference from the direct form (same draws) |\n|---|---|")
    for algo in range(1, 9):
        params = RawBoostConfig(algo=algo)
        worst = 0.0
        for seed in range(seeds):
            ours = apply_rawboost(waveform, params, np.random.RandomState(seed))
            direct = direct_rawboost(waveform, params, np.random.RandomState(seed))
            worst = max(worst, float(np.abs(ours - direct).max()))
        print(f"| {algo} | {worst:.1e} |")


def _show_stages(waveform: np.ndarray, repeats: int, turn: int) -> None:
    rng, params = np.random.default_rng(1), RawBoostConfig(algo=3)
    legacy, zero_db, num_samples = np.random.RandomState(1), np.zeros(1), len(waveform)
    white, notches = white_noise(num_samples, rng), draw_filters(params, zero_db, zero_db, rng)
    half_length = notches.half_length
    response = zero_phase_response(notches, 16_000)
    whole_range = {"high": 2**64 - 1, "dtype": np.uint64, "endpoint": True}

    def design() -> None:
        zero_phase_response(draw_filters(params, zero_db, zero_db, rng), 16_000)

    stages = {
        "all of SSI": lambda: apply_rawboost(waveform, params, rng),
        "Gaussian noise": lambda: white_noise(num_samples, rng),
        "... of it random bits": lambda: rng.integers(0, size=num_samples // 2, **whole_range),
        "... by Generator.standard_normal instead": lambda: rng.standard_normal(num_samples),
        "... by RandomState.standard_normal instead": lambda: legacy.standard_normal(num_samples),
        "the filter: draws and response": design,
        "FFTs, there and back": lambda: filter_powers(white, response, half_length),
    }
    print("\n| stage of SSI | ms | share |\n|---|---|---|")
    medians = _alternate(stages, repeats, turn)
    for name, median in medians.items():
        print(f"| {name} | {median:.3f} | {median / medians['all of SSI']:.0%} |")


def _alternate(calls: Mapping[str, Callable[[], object]], repeats: int, turn: int) -> dict[str, float]:
    """Returns the median milliseconds of each call, all taking turns of `turn` calls."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(-(-repeats // turn)):
        for name, call in calls.items():
            call()  # after the others' turns, for the caches
            for _ in range(turn):
                start = time.thread_time()
                call()
                times[name].append(time.thread_time() - start)
    return {name: 1e3 * statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    main()
