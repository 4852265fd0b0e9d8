"""RawBoost: raw-waveform augmentation for anti-spoofing.

Tak, Kamble, Patino, Todisco and Evans, "RawBoost: A Raw Data Boosting and Augmentation Method applied to
Automatic Speaker Verification Anti-Spoofing", Odyssey 2022. Three kinds of noise: LnL (linear and non-linear
convolutive), ISD (impulsive signal-dependent) and SSI (stationary signal-independent), and their
combinations.
"""

import math

import numpy as np

from sls.config import SAMPLE_RATE_HZ, RawBoostConfig
from sls.data.rawboost.filters import (
    FilterDraws,
    RandomSource,
    draw_filters,
    filter_powers,
    zero_phase_response,
)

USES_LNL = frozenset({1, 4, 5, 6, 8})
USES_ISD = frozenset({2, 4, 5, 7, 8})
USES_SSI = frozenset({3, 4, 6, 7})
PARALLEL = 8
"""The algorithm that sums LnL and ISD of the same waveform; the others apply theirs in series."""
MAX_LOG_GAIN = 500.0
"""Gains are kept within e^±500, inside the range of float64."""
MAX_NOISE_SCALE = 1e30
"""Keeps SSI at absurd signal-to-noise ratios within the range of float32."""


def apply_rawboost(
    waveform: np.ndarray, params: RawBoostConfig, rng: RandomSource, sample_rate_hz: int = SAMPLE_RATE_HZ
) -> np.ndarray:
    """Returns the augmented waveform.

    Args:
        waveform: Mono, shape `(num_samples,)`, finite; one sample or more.
        params: The algorithm and its bounds.
        rng: A Generator, or a RandomState, which gives what the original implementation gives after
            `numpy.random.seed`. Of the same distribution, a Generator draws in quicker ways.
        sample_rate_hz: Sampling rate in Hz.

    Returns:
        A new float32 array of the same shape. SSI may leave it beyond [-1, 1], as published.

    Raises:
        ValueError: if the waveform is not one finite row of samples.
    """
    waveform = np.asarray(waveform, np.float32)
    if waveform.ndim != 1 or not waveform.size:
        raise ValueError(f"waveform: found shape {waveform.shape}, expected (num_samples,), 1 or more")
    if not np.isfinite(waveform).all():
        raise ValueError("waveform: found NaN or infinity, expected finite samples")
    boosted = waveform
    if params.algo in USES_LNL:
        boosted = _lnl(boosted, params, rng, sample_rate_hz)
    if params.algo in USES_ISD:
        disturbed = _isd(waveform if params.algo == PARALLEL else boosted, params, rng)
        boosted = _unclipped(boosted + disturbed) if params.algo == PARALLEL else disturbed
    if params.algo in USES_SSI:
        boosted = _ssi(boosted, params, rng, sample_rate_hz)
    return waveform.copy() if boosted is waveform else boosted


def draw_impulses(
    params: RawBoostConfig, num_samples: int, rng: RandomSource
) -> tuple[np.ndarray, np.ndarray]:
    """Draws what ISD disturbs of a waveform, and how much.

    Returns:
        The samples to disturb, int64, and the disturbance of each as a part of it, without its gain, both of shape
        `(num_disturbed,)`.
    """
    share_percent = params.P * rng.random()
    count = int(num_samples * (share_percent / 100))
    if isinstance(rng, np.random.RandomState):
        positions = rng.permutation(num_samples)[:count]
    else:  # Only which samples matters, not their order: no need to shuffle them all.
        positions = rng.choice(num_samples, count, replace=False, shuffle=False)
    return positions, (2 * rng.random(count) - 1) * (2 * rng.random(count) - 1)


def white_noise(num_samples: int, rng: RandomSource) -> np.ndarray:
    """Returns white Gaussian noise of variance 1, shape `(num_samples,)`, float32.

    A Generator's uniform numbers go through the Box-Muller transform, which NumPy does in vector
    instructions; `Generator.standard_normal`, one sample at a time, would be most of the time of SSI.
    """
    if isinstance(rng, np.random.RandomState):
        return rng.standard_normal(num_samples).astype(np.float32)
    num_pairs = (num_samples + 1) // 2
    bits = rng.integers(2**64 - 1, size=num_pairs, dtype=np.uint64, endpoint=True).view(np.uint32)
    uniform = bits.astype(np.float32)
    radius, angle = uniform[:num_pairs], uniform[num_pairs:]
    radius += np.float32(1)  # (0, 1] and not [0, 1), for the logarithm
    radius *= np.float32(2**-32)
    np.log(radius, out=radius)
    radius *= np.float32(-2)
    np.sqrt(radius, out=radius)
    angle *= np.float32(2 * np.pi * 2**-32)
    noise = bits.view(np.float32)  # no longer needed as bits
    for half, circular in ((noise[:num_pairs], np.cos), (noise[num_pairs:], np.sin)):
        circular(angle, out=half)
        half *= radius
    return noise[:num_samples]


def _lnl(waveform: np.ndarray, params: RawBoostConfig, rng: RandomSource, sample_rate_hz: int) -> np.ndarray:
    """Linear and non-linear convolutive noise: a filter for each power of the waveform, summed."""
    # From the second power on, both bounds are lowered, once; so the first may become the higher one.
    lowest = np.full(params.N_f, params.minG - params.minBiasLinNonLin, np.float64)
    highest = np.full(params.N_f, params.maxG - params.maxBiasLinNonLin, np.float64)
    lowest[0], highest[0] = params.minG, params.maxG
    notches = draw_filters(params, lowest, highest, rng)
    peak = _peak(waveform)
    if peak == 0:
        return waveform
    scaled = waveform / np.float64(peak)  # in float32, a loud tone would leave errors of 1e-6
    gains, greatest = _lnl_gains(notches, peak)
    response = zero_phase_response(notches, sample_rate_hz)
    summed = filter_powers(scaled, response * gains[:, None], notches.half_length)
    summed -= summed.mean()
    return _unclipped(summed, greatest).astype(np.float32)


def _lnl_gains(notches: FilterDraws, peak: float) -> tuple[np.ndarray, float]:
    """Returns the gains `(filters,)` of the powers of a waveform that was scaled to 1, by the greatest, and that."""
    powers = np.arange(1, len(notches.gain_db) + 1)
    log_gains = powers * math.log(peak) + notches.gain_db * (math.log(10) / 20)
    greatest = log_gains.max()
    return np.exp(log_gains - greatest), math.exp(min(max(greatest, -MAX_LOG_GAIN), MAX_LOG_GAIN))


def _isd(waveform: np.ndarray, params: RawBoostConfig, rng: RandomSource) -> np.ndarray:
    """Impulsive signal-dependent noise on a random share of the samples."""
    positions, factors = draw_impulses(params, waveform.size, rng)
    disturbed = waveform.copy()
    greatest = np.finfo(np.float32).max
    disturbed[positions] = (waveform[positions] * (1 + params.g_sd * factors)).clip(-greatest, greatest)
    return _unclipped(disturbed)


def _ssi(waveform: np.ndarray, params: RawBoostConfig, rng: RandomSource, sample_rate_hz: int) -> np.ndarray:
    """Stationary signal-independent noise. The filter's gain is drawn but cancels in the ratio."""
    white = white_noise(waveform.size, rng)
    notches = draw_filters(params, np.array([params.minG]), np.array([params.maxG]), rng)
    snr_db = params.SNRmin + (params.SNRmax - params.SNRmin) * rng.random()
    noise = filter_powers(white, zero_phase_response(notches, sample_rate_hz), notches.half_length)
    noise *= np.float32(_ssi_scale(_energy(waveform), _energy(noise), snr_db))
    noise += waveform
    return noise


def _ssi_scale(signal_energy: float, noise_energy: float, snr_db: float) -> float:
    """Returns the factor that brings the noise to a signal-to-noise ratio; 0 if there is no noise."""
    if noise_energy == 0:
        return 0.0
    log_ratio = min(max(-snr_db * (math.log(10) / 20), -MAX_LOG_GAIN), MAX_LOG_GAIN)
    return min(math.sqrt(signal_energy / noise_energy) * math.exp(log_ratio), MAX_NOISE_SCALE)


def _unclipped(waveform: np.ndarray, gain: float = 1.0) -> np.ndarray:
    """Returns `gain * waveform`, or that scaled to a peak of 1 if it would clip."""
    peak = _peak(waveform)
    if peak * gain > 1:
        return waveform / waveform.dtype.type(peak)
    return waveform * waveform.dtype.type(gain) if peak > 0 and gain != 1 else waveform


def _peak(waveform: np.ndarray) -> float:
    return max(float(waveform.max()), -float(waveform.min()))


def _energy(waveform: np.ndarray) -> float:
    with np.errstate(over="ignore"):
        energy = float(np.dot(waveform, waveform))
    if math.isfinite(energy):
        return energy
    return float(np.dot(waveform.astype(np.float64), waveform.astype(np.float64)))
