"""Resampling: by soxr, or by the filter with which the published scores were made."""

import math
from functools import lru_cache

import numpy as np
import soxr

from sls.config import Resampler
from sls.data.audio.containers import AudioError

SOXR_QUALITY = "HQ"
"""Of soxr. The published scores were made with librosa 0.9.1, whose default is kaiser_best: `resample_kaiser_best`.
Recordings at 16 kHz, as ASVspoof's are, are not resampled by either."""

# Of resampy's kaiser_best before its version 0.4.
_HALF_WIDTH = 64  # samples at the lower of the two rates
_ROLLOFF = 0.9475937167399596
_BETA = 14.769656459379492
_MAX_PERIOD = 48_000  # points to a sample; enough for every rate up to 48 kHz, and 50 MB of filter
_PIECE = 2**16


def resample(mono: np.ndarray, rate_hz: int, new_rate_hz: int, resampler: Resampler = "soxr") -> np.ndarray:
    """Returns `(num_samples,)` at another rate in Hz, float32; raises AudioError where nothing is left of it."""
    if rate_hz != new_rate_hz:
        if resampler == "kaiser_best":
            mono = resample_kaiser_best(mono, rate_hz, new_rate_hz)
        else:
            mono = soxr.resample(mono, rate_hz, new_rate_hz, quality=SOXR_QUALITY)
        if len(mono) == 0:
            raise AudioError("found no samples after resampling, expected a recording")
        if not np.isfinite(mono).all():
            raise AudioError("found samples too large to be resampled, expected full scale at 1")
    return np.ascontiguousarray(mono, dtype=np.float32)


def resample_kaiser_best(mono: np.ndarray, rate_hz: int, new_rate_hz: int) -> np.ndarray:
    """Resamples as librosa 0.9.1 does by default: by resampy's kaiser_best, to a length that is rounded up.

    The filter is that of resampy before 0.4; which version the published system had, it does not say. (torchaudio's,
    with the same parameters, is wider by 1 / rolloff, and drops the last sample of some recordings.) resampy also
    rounds its steps through a table of the filter down, which is not repeated here: white noise differs by -37 dB at
    44.1 and 48 kHz, and by -46 dB or less at lower rates.

    Returns:
        Shape `(ceil(num_samples * new_rate_hz / rate_hz),)`, whose last sample is 0 where that was rounded up; or
        `(0,)` where it is less than one sample.

    Raises:
        AudioError: the two rates are in a ratio of numbers that are too large.
    """
    from scipy.signal import resample_poly  # A second to import, for which other doors are not to wait.

    divisor = math.gcd(rate_hz, new_rate_hz)
    up, down = new_rate_hz // divisor, rate_hz // divisor
    if max(up, down) > _MAX_PERIOD:
        raise AudioError(
            f"found a rate of {rate_hz} Hz, to which the filter of kaiser_best would be too long, expected at most "
            f"{_MAX_PERIOD} Hz, or one with a larger common divisor with {new_rate_hz} Hz: use resampler=soxr"
        )
    resampled = resample_poly(mono, up, down, window=_kaiser_best_filter(max(up, down)))
    num_whole = len(mono) * up // down
    resampled[num_whole:] = 0
    return resampled if num_whole else resampled[:0]


@lru_cache(maxsize=4)
def _kaiser_best_filter(period: int) -> np.ndarray:
    """Returns a sinc under a Kaiser window, `period` points to a sample of the lower rate: `(128 * period + 1,)`.

    Its first half is computed, in pieces, which bounds what millions of points need on the way.
    """
    middle = _HALF_WIDTH * period
    points = np.empty(2 * middle + 1)
    for first in range(0, middle + 1, _PIECE):
        steps = np.arange(first, min(first + _PIECE, middle + 1)) - middle
        sinc = _ROLLOFF * np.sinc(_ROLLOFF * (steps / period))
        window = np.i0(_BETA * np.sqrt(1 - (steps / middle) ** 2.0)) / np.i0(_BETA)
        points[first : first + len(steps)] = sinc * window / period
    points[middle:] = points[middle::-1]
    return points
