"""Asks whether the demo corpus is a detection problem: what trivial features tell, and what spectra tell.

    OMP_NUM_THREADS=2 python -m benchmarks.demo_corpus --seeds 1234,1,2

A trivial feature is one number for each recording that needs no look at the voice. The table gives the EER of each
as a detector, in whichever direction is better, so that 50 % is useless and 0 % is a giveaway. The second table is a
logistic regression on means and deviations of log-mel spectra, trained on train: the problem can be learned.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from torchaudio.functional import melscale_fbanks

from sls.config import SAMPLE_RATE_HZ
from sls.data.audio.recording import read_audio
from sls.data.corpora.tracks import load_tracks
from sls.data.demo_corpus import make_demo_corpus
from sls.data.demo_corpus.plan import PARTS
from sls.data.demo_corpus.voice import NUM_BINS, stft
from sls.data.tables.protocols import Label
from sls.metrics.eer import compute_eer

FRAME = SAMPLE_RATE_HZ // 100  # 10 ms
MEL_BANDS = 40


@dataclass(frozen=True)
class PartFeatures:
    """The recordings of one part: labels and attacks `(trials,)`, and what was measured on each of them."""

    labels: np.ndarray
    attacks: np.ndarray
    trivial: dict[str, np.ndarray]
    log_mel: np.ndarray
    """Means, deviations and mean steps of log-mel bands, `(trials, 3 * MEL_BANDS)`."""


def measure_parts(data_root: Path) -> dict[str, PartFeatures]:
    """Measures every recording of every part, all subsets, read through the built-in tracks."""
    return {part: _measure_part(data_root, part) for part in PARTS}


def eer_either_way(values: np.ndarray, labels: np.ndarray) -> float:
    """Returns the EER of a number as a score, or of its opposite where that is lower; ties are broken by chance."""
    order = np.lexsort((np.random.default_rng(0).random(len(values)), values))
    ranks = np.empty(len(values))
    ranks[order] = np.arange(len(values))
    bonafide, spoof = ranks[labels == Label.BONAFIDE], ranks[labels == Label.SPOOF]
    return min(compute_eer(bonafide, spoof).eer, compute_eer(-bonafide, -spoof).eer)


def trivial_features(waveform: np.ndarray) -> dict[str, float]:
    """Measures what a detector must not live on, of a waveform at 16 kHz."""
    frames = waveform[: len(waveform) // FRAME * FRAME].reshape(-1, FRAME)
    level_db = 10 * np.log10((frames**2).mean(axis=1) + 1e-10)
    loud_db = np.percentile(level_db, 95)
    active = np.flatnonzero(level_db > loud_db - 20)
    power = (np.abs(stft(waveform)) ** 2).sum(axis=0)
    cumulated = np.cumsum(power) / power.sum()
    bins_hz = np.linspace(0, SAMPLE_RATE_HZ / 2, len(power))
    rms = np.sqrt(np.mean(waveform**2))
    peak = np.abs(waveform).max()
    return {
        "duration": len(waveform),
        "leading silence": active[0],
        "trailing silence": len(level_db) - active[-1],
        "share of active frames": (level_db > loud_db - 25).mean(),
        "RMS": rms,
        "peak": peak,
        "crest factor": peak / rms,
        "DC": waveform.mean(),
        "size of DC": abs(waveform.mean()) / rms,
        "noise floor": np.percentile(level_db, 5),
        "noise floor under speech": np.percentile(level_db, 5) - loud_db,
        "zero samples": (waveform == 0).mean(),
        "zero crossings": np.diff(np.signbit(waveform)).mean(),
        "roll-off 85 %": np.interp(0.85, cumulated, bins_hz),
        "roll-off 95 %": np.interp(0.95, cumulated, bins_hz),
        "bandwidth (99.9 %)": np.interp(0.999, cumulated, bins_hz),
        "spectral centroid": (power * bins_hz).sum() / power.sum(),
        "share above 4 kHz": power[bins_hz > 4000].sum() / power.sum(),
        "share above 7 kHz": power[bins_hz > 7000].sum() / power.sum(),
        "share below 100 Hz": power[bins_hz < 100].sum() / power.sum(),
    }


def score_log_mel(train: PartFeatures, part: PartFeatures, num_steps: int = 1000) -> np.ndarray:
    """Scores a part by logistic regression on log-mel statistics, trained on train by gradient descent."""
    mean, deviation = train.log_mel.mean(axis=0), train.log_mel.std(axis=0)
    inputs = (train.log_mel - mean) / deviation
    weights, bias = np.zeros(inputs.shape[1]), 0.0
    for _ in range(num_steps):
        error = 1 / (1 + np.exp(-(inputs @ weights + bias))) - train.labels
        weights -= 0.05 * (inputs.T @ error / len(error) + 0.001 * weights)
        bias -= 0.05 * error.mean()
    return (part.log_mel - mean) / deviation @ weights


def _measure_part(data_root: Path, part: str) -> PartFeatures:
    track = load_tracks()[part]
    key = track.key(data_root)
    paths = {trial.name: trial.path for trial in track.trials(data_root, subset="all")}
    waveforms = [read_audio(paths[name]).astype(np.float64) for name in key.names]
    trivial = [trivial_features(waveform) for waveform in waveforms]
    assert key.labels is not None  # a key has labels
    return PartFeatures(
        labels=key.labels,
        attacks=key.fields.get("attack", np.full(len(key), "all")),
        trivial={name: np.array([row[name] for row in trivial]) for name in trivial[0]},
        log_mel=np.array([_log_mel_statistics(waveform) for waveform in waveforms]),
    )


def _log_mel_statistics(waveform: np.ndarray) -> np.ndarray:
    filters = melscale_fbanks(NUM_BINS, 0, SAMPLE_RATE_HZ / 2, MEL_BANDS, SAMPLE_RATE_HZ).numpy()
    log_mel = np.log(np.abs(stft(waveform)) ** 2 @ filters + 1e-12)
    steps = np.abs(np.diff(log_mel, axis=0)).mean(axis=0)
    return np.concatenate([log_mel.mean(axis=0), log_mel.std(axis=0), steps])


def _by_attack(scores: np.ndarray, part: PartFeatures) -> Iterator[str]:
    bonafide = scores[part.labels == Label.BONAFIDE]
    for attack in sorted(set(part.attacks[part.labels == Label.SPOOF])):
        spoof = scores[(part.attacks == attack) & (part.labels == Label.SPOOF)]
        yield f"{attack} {100 * compute_eer(bonafide, spoof).eer:.1f}"


@click.command()
@click.option("--seeds", default="1234", show_default=True, help="Seeds of the corpora, with commas between.")
@click.option("--scale", default=1.0, show_default=True, help="Size of the corpora.")
def main(seeds: str, scale: float) -> None:
    """Makes a demo corpus for each seed and prints two tables for it."""
    for seed in map(int, seeds.split(",")):
        with tempfile.TemporaryDirectory() as directory:
            start_s = time.perf_counter()
            root = make_demo_corpus(Path(directory) / "demo", seed=seed, scale=scale)
            made_s = time.perf_counter() - start_s
            parts = measure_parts(root)
        print(f"\nSeed {seed}, made in {made_s:.0f} s. EER in % of trivial features:\n")
        print(f"| feature | {' | '.join(PARTS)} |\n|---|{'---|' * len(PARTS)}")
        for feature in parts["train"].trivial:
            cells = [
                f"{100 * eer_either_way(part.trivial[feature], part.labels):.1f}" for part in parts.values()
            ]
            print(f"| {feature} | {' | '.join(cells)} |")
        print(
            "\nEER in % of a logistic regression on log-mel statistics:\n\n| part | all | by attack |\n|---|---|---|"
        )
        for name, part in parts.items():
            scores = score_log_mel(parts["train"], part)
            bonafide, spoof = scores[part.labels == Label.BONAFIDE], scores[part.labels == Label.SPOOF]
            eer_percent = 100 * compute_eer(bonafide, spoof).eer
            print(f"| {name} | {eer_percent:.1f} | {', '.join(_by_attack(scores, part))} |")


if __name__ == "__main__":
    main()
