"""From a dry utterance to a recording: silence, room, microphone, noise and level, alike for both classes.

Nothing here looks at the class: what it draws (how long the silences are, how loud the recording is, where its
band ends) therefore cannot tell bona fide from spoofed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from sls.config import SAMPLE_RATE_HZ

PEAK = 0.97
FADE = SAMPLE_RATE_HZ // 100  # 10 ms
SPEED_DB_PER_RT60 = 60.0


@dataclass(frozen=True)
class Surroundings:
    """Ranges from which the conditions of one recording are drawn."""

    rt60_s: tuple[float, float]
    direct_to_reverberant_db: tuple[float, float]
    snr_db: tuple[float, float]
    noise_slope_db_per_octave: tuple[float, float]
    level_dbfs: tuple[float, float]


STUDIO = Surroundings((0.15, 0.45), (2, 16), (28, 48), (-4, 0), (-34, -22))
FOUND = Surroundings((0.2, 0.8), (0, 12), (14, 38), (-7, 0), (-38, -20))
"""In the Wild: other rooms and more noise than the training data have."""


def record(
    dry: np.ndarray, lead_s: float, trail_s: float, surroundings: Surroundings, rng: np.random.Generator
) -> np.ndarray:
    """Returns the recording of a dry utterance with silence before and after it, within ±`PEAK`."""
    lead, trail = round(lead_s * SAMPLE_RATE_HZ), round(trail_s * SAMPLE_RATE_HZ)
    fade = np.minimum(1, (np.arange(len(dry)) + 1) / FADE)
    clean = np.pad(dry * fade * fade[::-1], (lead, trail))
    num_samples = len(clean)
    room = _room(surroundings, rng)
    size = next_fast_len(num_samples + len(room), real=True)
    frequencies_hz = np.linspace(0, SAMPLE_RATE_HZ / 2, size // 2 + 1)
    microphone = _microphone(frequencies_hz, rng)
    speech = irfft(rfft(clean, size) * rfft(room, size) * microphone, size)[:num_samples]
    slope = rng.uniform(*surroundings.noise_slope_db_per_octave)
    colour = (np.maximum(frequencies_hz, 30) / 1000) ** (slope / 6.02)
    noise = irfft(rfft(rng.normal(0, 1, num_samples), size) * colour * microphone, size)[:num_samples]
    power = np.mean(speech[lead : num_samples - trail] ** 2)
    snr = 10 ** (rng.uniform(*surroundings.snr_db) / 10)
    mixture = speech + noise * np.sqrt(power / snr / np.mean(noise**2))
    mixture *= 10 ** (rng.uniform(*surroundings.level_dbfs) / 20) / np.sqrt(power)
    return mixture * min(1, PEAK / np.abs(mixture).max())


def _room(surroundings: Surroundings, rng: np.random.Generator) -> np.ndarray:
    """Returns an impulse response: the direct sound, then noise that decays by 60 dB in the reverberation time."""
    rt60_s = rng.uniform(*surroundings.rt60_s)
    times = np.arange(round(rt60_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tail = rng.normal(0, 1, len(times)) * 10 ** (-SPEED_DB_PER_RT60 / 20 * times / rt60_s)
    tail[: round(rng.uniform(0.001, 0.005) * SAMPLE_RATE_HZ)] = 0
    ratio = 10 ** (-rng.uniform(*surroundings.direct_to_reverberant_db) / 10)
    tail *= np.sqrt(ratio / np.sum(tail**2))
    tail[0] = 1
    return tail


def _microphone(frequencies_hz: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a gain by frequency: a tilt, gentle waves, and both ends of the band."""
    octaves = np.log2(np.maximum(frequencies_hz, 50) / 1000)
    gain_db = rng.uniform(-2, 2) * octaves
    for _ in range(3):
        gain_db += rng.uniform(-3, 3) * np.exp(-0.5 * ((octaves - rng.uniform(-3, 3)) / 0.7) ** 2)
    low_hz, high_hz = rng.uniform(40, 110), rng.uniform(5500, 7800)
    high_pass = 1 / np.sqrt(1 + (low_hz / np.maximum(frequencies_hz, 1e-3)) ** 6)
    low_pass = 1 / np.sqrt(1 + (frequencies_hz / high_hz) ** 24)
    return 10 ** (gain_db / 20) * high_pass * low_pass
