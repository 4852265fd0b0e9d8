"""What a channel does, codecs aside: its band, its level, and packets that it loses. The length stays."""

from typing import Annotated

import numpy as np

from sls.config import SAMPLE_RATE_HZ
from sls.data.audio.resampling import resample
from sls.data.conditions.settings import Within

_NYQUIST_HZ = SAMPLE_RATE_HZ // 2
_ORDER = 8


def limit_band(
    waveform: np.ndarray,
    *,
    rate_hz: Annotated[float, Within(2_000, SAMPLE_RATE_HZ)] = SAMPLE_RATE_HZ,
    low_hz: Annotated[float, Within(0, _NYQUIST_HZ)] = 0,
    high_hz: Annotated[float, Within(0, _NYQUIST_HZ)] = _NYQUIST_HZ,
) -> np.ndarray:
    """Keeps a band, by Butterworth filters, and of that what a lower sampling rate holds."""
    from scipy.signal import butter, sosfilt  # A second to import, for which other doors are not to wait.

    if low_hz >= high_hz:
        raise ValueError(f"found low_hz {low_hz:g}, expected less than high_hz, {high_hz:g}")
    kept = np.pad(waveform.astype(np.float64), (0, SAMPLE_RATE_HZ // 10))  # for what is shorter than a filter
    if low_hz > 0:
        kept = sosfilt(butter(_ORDER, low_hz, "highpass", fs=SAMPLE_RATE_HZ, output="sos"), kept)
    if high_hz < _NYQUIST_HZ:
        kept = sosfilt(butter(_ORDER, high_hz, "lowpass", fs=SAMPLE_RATE_HZ, output="sos"), kept)
    lowered = resample(kept, SAMPLE_RATE_HZ, round(rate_hz))
    return resample(lowered, round(rate_hz), SAMPLE_RATE_HZ)[: len(waveform)]


def change_gain(waveform: np.ndarray, *, gain_db: Annotated[float, Within(-100, 100)]) -> np.ndarray:
    """Makes a recording louder or softer, and clips it at full scale as what stores it would."""
    return np.clip(waveform * np.float64(10 ** (gain_db / 20)), -1, 1)


def clip_peaks(waveform: np.ndarray, *, share: Annotated[float, Within(0, 1)]) -> np.ndarray:
    """Clips a recording at the level that a share of its samples reaches; its zeros do not count."""
    magnitudes = np.abs(waveform[waveform != 0])
    if len(magnitudes) == 0:
        return waveform
    level = np.quantile(magnitudes, 1 - share, method="lower")
    return np.clip(waveform, -level, level)


def lose_packets(
    waveform: np.ndarray,
    generator: np.random.Generator,
    *,
    share: Annotated[float, Within(0, 1)],
    packet_ms: Annotated[float, Within(1, 1_000)] = 20,
    burst: Annotated[float, Within(0, 1_000)] = 0,
) -> np.ndarray:
    """Replaces lost packets by zeros.

    Args:
        waveform: Shape `(num_samples,)`.
        generator: Draws which are lost.
        share: The part that is lost, on average.
        packet_ms: The length of a packet.
        burst: How many are lost one after another, on average, by the two states of Gilbert (1960), in one of which
            all are lost. Under 1, a packet is lost or not whatever became of the others.
    """
    after_lost = after_kept = share
    if burst >= 1:
        if share > burst / (burst + 1):
            most = burst / (burst + 1)
            raise ValueError(f"found share {share:g}, expected at most {most:g} in bursts of {burst:g}")
        after_lost, after_kept = 1 - 1 / burst, share / (burst * (1 - share))
    packet = round(packet_ms * SAMPLE_RATE_HZ / 1_000)
    draws = generator.random(-(-len(waveform) // packet))
    lost = np.empty(len(draws), np.bool_)
    chance = share
    for number, draw in enumerate(draws.tolist()):
        lost[number] = draw < chance
        chance = after_lost if lost[number] else after_kept
    return np.where(np.repeat(lost, packet)[: len(waveform)], np.float32(0), waveform)
