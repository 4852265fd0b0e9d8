"""How many utterances a second the loader gives, by number of workers, with and without RawBoost.

Beside the rate by the clock stands the processor time of one utterance (decode, augment, fit, batch), which a
busy machine disturbs less; from it follows how much of a GPU's appetite a number of cores would feed.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import soundfile
import torch

from sls.config import AudioConfig, RawBoostConfig
from sls.data.loading.dataset import TrialDataset
from sls.data.loading.loader import load_batches
from sls.data.loading.training_batches import EpochBatches
from sls.data.loading.trial_lists import list_recordings
from sls.data.tables.protocols import Trial

SCORING_APPETITE = 3_000
"""Utterances per second that an H200 is taken to score."""
TRAINING_APPETITE = 600
"""Utterances per second that an H200 is taken to train on."""
NUM_CORES = 16
CASES: dict[str, tuple[RawBoostConfig | None, int]] = {
    "no RawBoost": (None, SCORING_APPETITE),
    "RawBoost 3 (SSI, the recipe)": (RawBoostConfig(algo=3), TRAINING_APPETITE),
    "RawBoost 5 (LnL + ISD)": (RawBoostConfig(algo=5), TRAINING_APPETITE),
    "RawBoost 4 (LnL + ISD + SSI)": (RawBoostConfig(algo=4), TRAINING_APPETITE),
}


def make_flac(folder: Path, num_files: int, duration_s: float, seed: int = 1234) -> list[Trial]:
    """Writes FLAC files of noise that is coloured as speech is, so that they are as large as speech."""
    rng = np.random.default_rng(seed)
    num_samples = round(duration_s * 16_000)
    trials = []
    for index in range(num_files):
        spectrum = np.fft.rfft(rng.normal(size=num_samples))
        spectrum /= 1 + np.fft.rfftfreq(num_samples, 1 / 16_000) / 300
        waveform = np.fft.irfft(spectrum, num_samples)
        path = folder / f"G_{index:04d}.flac"
        soundfile.write(path, 0.3 * waveform / np.abs(waveform).max(), 16_000)
        trials.append(Trial(path.stem, path, index % 2))
    return trials


def measure(dataset: TrialDataset, batch_size: int, num_workers: int, epoch: int) -> tuple[float, float]:
    """Returns utterances per second by the clock, and processor seconds of this process for each utterance.

    The time of starting the workers is left out: the clock starts at the first batch, which is not counted.
    """
    batches = EpochBatches(dataset, batch_size=batch_size, epoch=epoch, shuffle=True, drop_last=True)
    iterator = load_batches(batches, range(len(batches)), num_workers)
    next(iterator)
    start, start_cpu = time.perf_counter(), time.process_time()
    count = sum(len(batch) for batch in iterator)
    return count / (time.perf_counter() - start), (time.process_time() - start_cpu) / count


def measure_corpus(name: str, trials: list[Trial], workers: list[int], repeats: int, batch_size: int) -> None:
    """Prints the table of one corpus."""
    seconds = statistics.mean(soundfile.info(trial.path).duration for trial in trials)
    print(f"### {name}: {len(trials)} files, {seconds:.2f} s on average, batches of {batch_size}\n")
    heads = " | ".join(f"{count} workers, utt/s" for count in workers)
    print(
        f"| augmentation | {heads} | CPU ms an utterance | of it in the main process, with workers "
        f"| {NUM_CORES} cores feed of an H200's appetite |"
    )
    print(f"|---|{'---|' * len(workers)}---|---|---|")
    datasets = {
        case: TrialDataset(trials, AudioConfig(), params, 1234) for case, (params, _) in CASES.items()
    }
    rates: dict[tuple[str, int], list[float]] = {}
    cpu_s: dict[str, list[float]] = {case: [] for case in CASES}
    main_cpu_s: dict[str, list[float]] = {case: [] for case in CASES}
    for epoch in range(repeats):
        for num_workers in workers:
            for case, dataset in datasets.items():  # in turns, so that a busy machine is busy for all
                rate, cost_s = measure(dataset, batch_size, num_workers, epoch)
                rates.setdefault((case, num_workers), []).append(rate)
                (main_cpu_s if num_workers else cpu_s)[case].append(cost_s)
    for case, (_, appetite) in CASES.items():
        cost_s = statistics.median(cpu_s[case])
        cells = " | ".join(f"{statistics.median(rates[case, count]):.0f}" for count in workers)
        share = NUM_CORES / cost_s / appetite
        main_ms = 1000 * statistics.median(main_cpu_s[case])
        print(
            f"| {case} | {cells} | {1000 * cost_s:.2f} | {main_ms:.2f} | {100 * share:.0f} % of {appetite} utt/s |"
        )
    print()


@click.command()
@click.option(
    "--audio-dir", type=click.Path(path_type=Path), help="Recordings to read beside generated ones."
)
@click.option(
    "--files", default=400, show_default=True, help="Generated files; also the most of --audio-dir."
)
@click.option("--duration-s", default=4.0, show_default=True, help="Seconds of a generated file.")
@click.option("--workers", default="0,1,2,4", show_default=True, help="Numbers of workers; 0 must be one.")
@click.option("--repeats", default=3, show_default=True, help="Epochs of each case.")
@click.option("--batch-size", default=20, show_default=True)
def main(
    audio_dir: Path | None, files: int, duration_s: float, workers: str, repeats: int, batch_size: int
) -> None:
    """Prints a table for each corpus."""
    torch.set_num_threads(1)
    counts = [int(count) for count in workers.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        trials = make_flac(Path(folder), files, duration_s)
        measure_corpus("generated FLAC", trials, counts, repeats, batch_size)
    if audio_dir is not None:
        measure_corpus(audio_dir.name, list_recordings(audio_dir)[:files], counts, repeats, batch_size)


if __name__ == "__main__":
    main()
