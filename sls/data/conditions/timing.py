"""What a recording begins and ends with, and how fast it runs."""

from typing import Annotated

import numpy as np

from sls.config import SAMPLE_RATE_HZ
from sls.data.audio.resampling import resample
from sls.data.audio.windows import fit_length
from sls.data.conditions.settings import Within

_FRAME = SAMPLE_RATE_HZ // 100  # samples in 10 ms

Decibels = Annotated[float, Within(0, 120)]
Seconds = Annotated[float, Within(0, 60)]


def trim_silence(waveform: np.ndarray, *, threshold_db: Decibels = 40) -> np.ndarray:
    """Cuts off what comes before the first and after the last frame of 10 ms that is loud.

    A frame is loud whose energy lies at most `threshold_db` under that of the loudest; one always is. Where all
    samples are zero, all stay.
    """
    first, end = _find_speech(waveform, threshold_db)
    return waveform[first:end]


def keep_silence(waveform: np.ndarray, *, threshold_db: Decibels = 40) -> np.ndarray:
    """Keeps only what `trim_silence` cuts off, end after beginning; where that is nothing, 50 ms of zeros.

    A little of the speech in their place would let a detector that hears no silence pass for one that does.
    """
    first, end = _find_speech(waveform, threshold_db)
    silence = np.concatenate([waveform[:first], waveform[end:]])
    return silence if len(silence) else np.zeros(5 * _FRAME, np.float32)


def add_silence(waveform: np.ndarray, *, leading_s: Seconds = 0, trailing_s: Seconds = 0) -> np.ndarray:
    """Puts zeros before and behind a recording."""
    return np.pad(waveform, (round(leading_s * SAMPLE_RATE_HZ), round(trailing_s * SAMPLE_RATE_HZ)))


def begin_later(waveform: np.ndarray, *, offset_s: Seconds) -> np.ndarray:
    """Begins a recording later; what came before follows its end, where a short one would be repeated anyhow."""
    return fit_length(waveform, len(waveform), round(offset_s * SAMPLE_RATE_HZ) % len(waveform))


def change_speed(waveform: np.ndarray, *, factor: Annotated[float, Within(0.5, 2)]) -> np.ndarray:
    """Plays a recording faster (over 1) or slower, and its pitch higher or lower with it."""
    return resample(waveform, round(SAMPLE_RATE_HZ * factor), SAMPLE_RATE_HZ)


def _find_speech(waveform: np.ndarray, threshold_db: float) -> tuple[int, int]:
    """Returns the first sample of the first loud frame, and the end of the last."""
    energies = np.add.reduceat(np.square(waveform, dtype=np.float64), np.arange(0, len(waveform), _FRAME))
    loud = np.flatnonzero(energies >= energies.max() * 10 ** (-threshold_db / 10))
    return int(loud[0]) * _FRAME, min((int(loud[-1]) + 1) * _FRAME, len(waveform))
