"""RawBoost in its direct form: the published formulas, one draw, one window and one FIR filter at a time.

The reference for the speed and the parity of `sls.data.rawboost`; nothing else should use it. Each notch is
one `scipy.signal.firwin`, each FIR filter one `scipy.signal.lfilter` in float64 (Tak et al., "RawBoost: A Raw
Data Boosting and Augmentation Method applied to Automatic Speaker Verification Anti-Spoofing", Odyssey 2022).
"""

from __future__ import annotations

import numpy as np
from scipy import signal

from sls.config import RawBoostConfig

SERIES = {1: "L", 2: "I", 3: "S", 4: "LIS", 5: "LI", 6: "LS", 7: "IS"}
EDGE_MARGIN_HZ = 0.001


def direct_rawboost(
    waveform: np.ndarray, params: RawBoostConfig, rng: np.random.RandomState, sample_rate_hz: int = 16_000
) -> np.ndarray:
    """Returns the augmented waveform, shape `(num_samples,)`; float64 wherever a filter was used."""
    if params.algo == 8:
        linear_and_not = _lnl(waveform, params, rng, sample_rate_hz)
        return _unclip(linear_and_not + _isd(waveform, params, rng))
    for step in SERIES.get(params.algo, ""):
        if step == "L":
            waveform = _lnl(waveform, params, rng, sample_rate_hz)
        elif step == "I":
            waveform = _isd(waveform, params, rng)
        else:
            waveform = _ssi(waveform, params, rng, sample_rate_hz)
    return waveform


def _lnl(x: np.ndarray, params: RawBoostConfig, rng: np.random.RandomState, fs: int) -> np.ndarray:
    """Linear and non-linear convolutive noise: a filter for each power of the waveform, summed."""
    low, high = params.minG, params.maxG
    y = np.zeros(len(x))
    for order in range(1, params.N_f + 1):
        if order == 2:
            low, high = low - params.minBiasLinNonLin, high - params.maxBiasLinNonLin
        y = y + _filter(np.power(x, order), _notches(params, low, high, rng, fs))
    return _unclip(y - np.mean(y))


def _isd(x: np.ndarray, params: RawBoostConfig, rng: np.random.RandomState) -> np.ndarray:
    """Impulsive signal-dependent noise on a random share of the samples."""
    share = _uniform(0, params.P, rng)
    chosen = rng.permutation(len(x))[: int(len(x) * (share / 100))]
    factor = (2 * rng.random(len(chosen)) - 1) * (2 * rng.random(len(chosen)) - 1)
    y = x.copy()
    y[chosen] = x[chosen] + params.g_sd * x[chosen] * factor
    return _unclip(y)


def _ssi(x: np.ndarray, params: RawBoostConfig, rng: np.random.RandomState, fs: int) -> np.ndarray:
    """Stationary signal-independent noise: filtered white noise at a random SNR."""
    noise = rng.standard_normal(len(x))
    noise = _filter(noise, _notches(params, params.minG, params.maxG, rng, fs))
    noise = noise / np.abs(noise).max()
    snr_db = _uniform(params.SNRmin, params.SNRmax, rng)
    return x + noise / np.linalg.norm(noise) * np.linalg.norm(x) / 10.0 ** (0.05 * snr_db)


def _notches(
    params: RawBoostConfig, low_db: float, high_db: float, rng: np.random.RandomState, fs: int
) -> np.ndarray:
    """Returns the coefficients of one random multi-band FIR filter."""
    taps = np.ones(1)
    for _ in range(params.nBands):
        centre = _uniform(params.minF, params.maxF, rng)
        width = _uniform(params.minBW, params.maxBW, rng)
        count = int(_uniform(params.minCoeff, params.maxCoeff, rng))
        count += count % 2 == 0
        f1, f2 = centre - width / 2, centre + width / 2
        f1 = EDGE_MARGIN_HZ if f1 <= 0 else f1
        f2 = fs / 2 - EDGE_MARGIN_HZ if f2 >= fs / 2 else f2
        taps = np.convolve(signal.firwin(count, [f1, f2], window="hamming", fs=fs), taps)
    gain_db = _uniform(low_db, high_db, rng)
    _, response = signal.freqz(taps, 1, fs=fs)
    return 10 ** (gain_db / 20) * taps / np.abs(response).max()


def _filter(x: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Applies an FIR filter to the zero-padded waveform and cuts the delay."""
    padding = len(taps) + 1
    y = signal.lfilter(taps, 1, np.pad(x, (0, padding)))
    return y[padding // 2 : len(y) - padding // 2]


def _uniform(low: float, high: float, rng: np.random.RandomState) -> float:
    # Not rng.uniform: LnL's bounds may be in falling order, which a Generator refuses.
    return low + (high - low) * rng.random()


def _unclip(x: np.ndarray) -> np.ndarray:
    peak = np.abs(x).max()
    return x / peak if peak > 1 else x
