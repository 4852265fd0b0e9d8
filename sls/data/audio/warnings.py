"""What makes the score of a recording less sure, judged by what the countermeasure hears of it.

short       under 1 s: it was repeated
clipped     more than one sample in 1,000 at full scale
silent      a level under -60 dB of full scale, its mean aside
cancelled   channels that cancel: their mean has less than a hundredth of their power
offset      a mean of more than 0.02 of full scale (DC)
narrow      all that is within 60 dB of its strongest frequency lies within 1.2 kHz
unfinished  a header that does not tell the number of samples, which were read to the end of the file
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

SHORT_S = 1.0
FULL_SCALE = 0.999
CLIPPED_SHARE = 1e-3
SILENT_DBFS = -60.0
CANCELLED_SHARE = 1e-2
OFFSET = 0.02
NARROW_HZ, NARROW_DB = 1_200, 60.0  # what a rate of 2 kHz leaves, and the skirts of its filter

UNFINISHED = "unfinished"

_FRAME, _NUM_FRAMES = 1024, 16
_TAPER = np.hanning(_FRAME)


def warn_of_file(samples: np.ndarray, duration_s: float, *, is_unfinished: bool) -> list[str]:
    """Names what only the recording as it was decoded can tell.

    Samples `(num_frames, channels)` are those of the stretch that is heard, the seconds those of the whole recording.
    """
    found = ["short"] if duration_s < SHORT_S else []
    if samples.shape[1] > 1:
        power = np.square(samples, dtype=np.float64).mean()
        if np.square(samples.mean(axis=1, dtype=np.float64)).mean() < CANCELLED_SHARE * power:
            found.append("cancelled")
    return [*found, UNFINISHED] if is_unfinished else found


def warn_of_waveform(heard: np.ndarray, rate_hz: int) -> list[str]:
    """Names what holds of what is heard: mono, resampled, `(num_samples,)`, at least one of them."""
    mean = float(heard.mean())
    is_silent = float(heard.std()) < 10 ** (SILENT_DBFS / 20)
    found = {
        "clipped": np.count_nonzero(np.abs(heard) >= FULL_SCALE) > CLIPPED_SHARE * len(heard),
        "silent": is_silent,
        "offset": abs(mean) > OFFSET,
        "narrow": not is_silent and measure_bandwidth(heard, rate_hz) < NARROW_HZ,
    }
    return [name for name, holds in found.items() if holds]


def measure_bandwidth(waveform: np.ndarray, rate_hz: int) -> float:
    """Returns the Hz between the lowest and the highest within `NARROW_DB` of the strongest, in frames all along."""
    if len(waveform) < _FRAME:
        waveform = np.pad(waveform, (0, _FRAME - len(waveform)))
    starts = np.linspace(0, len(waveform) - _FRAME, _NUM_FRAMES).astype(np.int64)
    frames = waveform[starts[:, None] + np.arange(_FRAME)]
    frames = (frames - frames.mean(axis=1, keepdims=True)) * _TAPER
    power = np.square(np.abs(np.fft.rfft(frames))).mean(axis=0)
    found = np.flatnonzero(power > power.max() * 10 ** (-NARROW_DB / 10))
    return float(np.ptp(found) * rate_hz / _FRAME) if len(found) else 0.0


def count_warnings(warned: Iterable[str]) -> Mapping[str, int]:
    """Returns how many recordings have each warning, of the warnings of each, separated by commas."""
    return Counter(name for names in warned for name in names.split(", ") if name)
