"""Short-time spectra, for the vocoders of the demo corpus."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from sls.config import SAMPLE_RATE_HZ

FFT_SIZE = 512  # 32 ms
HOP = 128  # 8 ms
NUM_BINS = FFT_SIZE // 2 + 1
FLOOR = 1e-9


@lru_cache(maxsize=1)
def _window() -> np.ndarray:
    return np.hanning(FFT_SIZE + 1)[:-1]


def stft(waveform: np.ndarray) -> np.ndarray:
    """Returns the spectra of frames centred on every `HOP` samples, shape `(frames, NUM_BINS)`."""
    padded = np.pad(waveform, (FFT_SIZE // 2, FFT_SIZE))
    num_frames = num_frames_of(len(waveform))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FFT_SIZE)[::HOP][:num_frames]
    return rfft(frames * _window(), axis=1)


def istft(spectra: np.ndarray, num_samples: int) -> np.ndarray:
    """Returns the waveform `(num_samples,)` whose frames are closest to the spectra (least squares)."""
    frames = irfft(spectra, n=FFT_SIZE, axis=1) * _window()
    total = overlap_add(frames)
    weight = overlap_add(np.broadcast_to(_window() ** 2, frames.shape))
    start = FFT_SIZE // 2
    return (total / np.maximum(weight, 1e-3))[start : start + num_samples]


def overlap_add(frames: np.ndarray) -> np.ndarray:
    """Adds up frames `(frames, FFT_SIZE)` that start every `HOP` samples."""
    num_frames, per_frame = len(frames), FFT_SIZE // HOP
    total = np.zeros((num_frames + per_frame - 1, HOP))
    for part in range(per_frame):
        total[part : part + num_frames] += frames[:, part * HOP : (part + 1) * HOP]
    return total.reshape(-1)


def num_frames_of(num_samples: int) -> int:
    """Returns how many frames `stft` makes, enough for `istft` to reach the last sample."""
    return num_samples // HOP + 1


def at_frames(track: np.ndarray, num_samples: int) -> np.ndarray:
    """Reads a track that spans the waveform evenly at the centre of every frame (nearest value)."""
    centres = np.arange(num_frames_of(num_samples)) * HOP / num_samples
    return track[np.minimum((centres * len(track)).astype(int), len(track) - 1)]


@lru_cache(maxsize=8)
def mel_filters(num_bands: int) -> np.ndarray:
    """Returns triangular filters `(num_bands, NUM_BINS)`, evenly spaced in mel from 0 Hz to Nyquist."""
    top_mel = 2595 * np.log10(1 + SAMPLE_RATE_HZ / 2 / 700)
    edges_hz = 700 * (10 ** (np.linspace(0, top_mel, num_bands + 2) / 2595) - 1)
    bins_hz = np.linspace(0, SAMPLE_RATE_HZ / 2, NUM_BINS)[None, :]
    low, mid, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    filters = np.maximum(0, np.minimum((bins_hz - low) / (mid - low), (high - bins_hz) / (high - mid)))
    return filters / np.maximum(filters.sum(axis=1, keepdims=True), FLOOR)


def mel_envelope(magnitudes: np.ndarray, num_bands: int) -> np.ndarray:
    """Smooths magnitudes `(frames, NUM_BINS)` to what `num_bands` mel bands keep of them."""
    filters = mel_filters(num_bands)
    bands = np.sqrt(magnitudes**2 @ filters.T)
    spread = filters / np.maximum(filters.sum(axis=0, keepdims=True), FLOOR)
    return bands @ spread


def cepstral_envelope(magnitudes: np.ndarray, num_coefficients: int) -> np.ndarray:
    """Smooths magnitudes `(frames, NUM_BINS)` by keeping their lowest cepstral coefficients."""
    cepstra = irfft(np.log(magnitudes + FLOOR), n=FFT_SIZE, axis=1)
    cepstra[:, num_coefficients : FFT_SIZE - num_coefficients + 1] = 0
    return np.exp(rfft(cepstra, axis=1).real)


def minimum_phase(magnitudes: np.ndarray) -> np.ndarray:
    """Returns the minimum-phase spectra with the magnitudes `(frames, NUM_BINS)`, by the real cepstrum."""
    cepstra = irfft(np.log(magnitudes + FLOOR), n=FFT_SIZE, axis=1)
    cepstra[:, 1 : FFT_SIZE // 2] *= 2
    cepstra[:, FFT_SIZE // 2 + 1 :] = 0
    return np.exp(rfft(cepstra, axis=1))


def match_long_term_spectrum(waveform: np.ndarray, reference: np.ndarray, num_bands: int = 14) -> np.ndarray:
    """Gives a waveform the long-term level and coarse spectrum of a reference, so that neither betrays it."""
    filters = mel_filters(num_bands)
    found = (np.abs(stft(waveform)) ** 2).mean(axis=0) @ filters.T
    wanted = (np.abs(stft(reference)) ** 2).mean(axis=0) @ filters.T
    gain_db = np.clip(10 * np.log10((wanted + FLOOR) / (found + FLOOR)), -30, 30)
    centres = filters.argmax(axis=1) / (NUM_BINS - 1)
    size = next_fast_len(len(waveform), real=True)
    spectrum = rfft(waveform, size)
    curve_db = np.interp(np.linspace(0, 1, len(spectrum)), centres, gain_db)
    return irfft(spectrum * 10 ** (curve_db / 20), n=size)[: len(waveform)]
