"""Long recordings: the windows in which a countermeasure hears them, and one score from those of the windows."""

from __future__ import annotations

from typing import Literal

import numpy as np

from sls.config import NUM_SAMPLES
from sls.data.audio.recording import fit_length

Combination = Literal["mean", "median", "min", "log-mean"]
"""How the scores of windows become one: log-mean is the logarithm of the mean probability of bona fide."""


def window_starts(num_samples: int, window: int, hop: int) -> np.ndarray:
    """Returns the first sample of each window of a recording.

    Windows follow each other by `hop`; where they do not reach the end, one more ends there, so that every
    sample is heard.

    Args:
        num_samples: length of the recording.
        window: samples in a window.
        hop: samples from one window to the next; 0 for the first window alone, as published.

    Returns:
        Shape: `(windows,)`, int64, at least one window.
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
    """Cuts a waveform into windows, see `window_starts`; one that is shorter than a window is repeated.

    Args:
        waveform: shape `(num_samples,)`.
        window: samples in a window.
        hop: samples from one window to the next; 0 for the first window alone.

    Returns:
        Shape: `(windows, window)`.

    Raises:
        ValueError: the waveform is empty.
    """
    if len(waveform) <= window:
        return fit_length(waveform, window)[np.newaxis]
    return np.stack([waveform[start : start + window] for start in window_starts(len(waveform), window, hop)])


def combine_scores(scores: np.ndarray, combination: Combination) -> float:
    """Returns one score for a recording.

    Args:
        scores: log P(bona fide) of each window. Shape: `(windows,)`.
        combination: mean, median, min (the most suspicious window), or log-mean.

    Raises:
        ValueError: there are no scores.
    """
    if len(scores) == 0:
        raise ValueError("scores: found no window, expected one at least")
    values = np.asarray(scores, dtype=np.float64)
    match combination:
        case "mean":
            return float(values.mean())
        case "median":
            return float(np.median(values))
        case "min":
            return float(values.min())
        case "log-mean":
            return float(np.logaddexp.reduce(values) - np.log(len(values)))
