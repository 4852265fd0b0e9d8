"""The stretch of a recording that the countermeasure hears, and the windows in which it hears all of a long one."""

from typing import Literal

import numpy as np

from sls.config import NUM_SAMPLES

Combination = Literal["mean", "median", "min", "log-mean"]
"""How the scores of windows become one: log-mean is the logarithm of the mean probability of bona fide."""


def fit_length(waveform: np.ndarray, num_samples: int = NUM_SAMPLES, start: int = 0) -> np.ndarray:
    """Cuts a long waveform from a start, and repeats a short one, to `(num_samples,)`, as the published system does.

    Raises:
        ValueError: the waveform is empty.
    """
    if len(waveform) == 0:
        raise ValueError("waveform: found no samples, expected one at least")
    if start + num_samples <= len(waveform):
        return waveform[start : start + num_samples]
    return np.resize(np.roll(waveform, -start), num_samples)


def draw_crop_start(num_found: int, num_samples: int, rng: np.random.Generator) -> int:
    """Draws where a crop of `num_samples` begins; a short recording, to be repeated, may begin at any sample."""
    spare = num_found - num_samples
    return int(rng.integers(spare + 1 if spare > 0 else num_found))


def window_starts(num_samples: int, window: int, hop: int) -> np.ndarray:
    """Returns the first sample of each window of a recording: `(windows,)`, int64, at least one window.

    Windows follow each other by `hop`; where they do not reach the end, one more ends there, so that every
    sample is heard. By a hop of 0 there is the first window alone, as published.
    """
    last = max(num_samples - window, 0)
    if hop == 0:
        return np.zeros(1, dtype=np.int64)
    starts = np.arange(0, last + 1, hop, dtype=np.int64)
    return starts if starts[-1] == last else np.append(starts, last)


def check_hop(hop: int, window: int) -> None:
    """Raises ValueError where samples between two windows would not be heard."""
    if hop > window:
        raise ValueError(f"window_hop: found {hop}, expected at most {window}, the samples of a window")


def cut_windows(waveform: np.ndarray, window: int = NUM_SAMPLES, hop: int = 0) -> np.ndarray:
    """Cuts a waveform, not empty, into windows `(windows, window)` by `window_starts`; a shorter one is repeated."""
    if len(waveform) <= window:
        return fit_length(waveform, window)[np.newaxis]
    return np.stack([waveform[start : start + window] for start in window_starts(len(waveform), window, hop)])


def combine_scores(scores: np.ndarray, combination: Combination) -> float:
    """Returns one score for a recording from those of its windows, log P(bona fide), `(windows,)`, at least one."""
    if len(scores) == 0:
        raise ValueError("scores: found no window, expected one at least")
    values = np.asarray(scores, dtype=np.float64)
    if combination == "log-mean":
        return float(np.logaddexp.reduce(values) - np.log(len(values)))
    if combination == "median":
        return float(np.median(values))
    return float(values.min() if combination == "min" else values.mean())
