"""The attacks of the demo corpus's training and development data: A01 to A04.

Each takes an utterance and its pitch and makes its waveform anew, with as many samples. The attacks of
the evaluation tracks are in `unseen_vocoders`.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import irfft
from scipy.signal import lfilter

from sls.config import SAMPLE_RATE_HZ
from sls.data.demo_corpus.spectra import (
    FFT_SIZE,
    FLOOR,
    HOP,
    NUM_BINS,
    at_frames,
    cepstral_envelope,
    istft,
    mel_envelope,
    minimum_phase,
    stft,
)
from sls.data.demo_corpus.voice import Speech

GRIFFIN_LIM_ITERATIONS = 12
GRIFFIN_LIM_MEL_BANDS = 80
LPC_ORDER = 16
WORLD_CEPSTRA = 30
SINUSOIDS = 40


def griffin_lim(speech: Speech, rng: np.random.Generator) -> np.ndarray:
    """A01: phases found by Griffin and Lim's iteration (1984) for magnitudes that went through 80 mel bands."""
    num_samples = len(speech.waveform)
    magnitudes = mel_envelope(np.abs(stft(speech.waveform)), GRIFFIN_LIM_MEL_BANDS)
    spectra = magnitudes * np.exp(2j * np.pi * rng.random(magnitudes.shape))
    for _ in range(GRIFFIN_LIM_ITERATIONS):
        spectra = stft(istft(spectra, num_samples))
        spectra *= magnitudes / (np.abs(spectra) + FLOOR)
    return istft(spectra, num_samples)


def linear_prediction(speech: Speech, rng: np.random.Generator) -> np.ndarray:
    """A02: linear prediction of order 16, excited by one pulse a period or by noise, never by both."""
    num_samples = len(speech.waveform)
    power = np.abs(stft(speech.waveform)) ** 2
    autocorrelation = irfft(power, n=FFT_SIZE, axis=1)[:, : LPC_ORDER + 1]
    autocorrelation[:, 0] = autocorrelation[:, 0] * 1.0001 + FLOOR
    predictors, errors = _levinson(autocorrelation)
    f0_hz = pitch_by_sample(speech)
    pulses = np.diff(np.floor(np.cumsum(f0_hz) / SAMPLE_RATE_HZ), prepend=0.0)
    pulses *= np.sqrt(SAMPLE_RATE_HZ / np.maximum(f0_hz, 1))
    excitation = np.where(f0_hz > 0, pulses, rng.normal(0, 1, num_samples))
    state = np.zeros(LPC_ORDER)
    output = np.zeros(num_samples)  # the last frame may end up to half a hop before the utterance does
    for frame, (predictor, error) in enumerate(zip(predictors, errors, strict=True)):
        span = slice(max(0, frame * HOP - HOP // 2), min(num_samples, frame * HOP + HOP // 2))
        if span.start < span.stop:
            output[span], state = lfilter([np.sqrt(error)], predictor, excitation[span], zi=state)
    return output


def harmonic_plus_noise(speech: Speech, rng: np.random.Generator) -> np.ndarray:
    """A03: after WORLD (Morise et al., 2016): a smoothed envelope of minimum phase, pulses below, noise above."""
    num_samples = len(speech.waveform)
    envelope = cepstral_envelope(np.abs(stft(speech.waveform)), WORLD_CEPSTRA)
    f0_hz = pitch_by_sample(speech)
    voiced = at_frames(f0_hz, num_samples) > 0
    noisy = np.clip((np.linspace(0, 8, NUM_BINS) - 2.5) / 4, 0.05, 0.9)
    noise_share = np.where(voiced[:, None], noisy[None, :], 1.0)
    pulses, noise = stft(pulse_train(f0_hz)), stft(rng.normal(0, 1, num_samples))
    excitation = np.sqrt(1 - noise_share) * pulses + np.sqrt(noise_share) * noise
    return istft(excitation * minimum_phase(envelope) / np.sqrt(FFT_SIZE), num_samples)


def sinusoidal(speech: Speech, rng: np.random.Generator) -> np.ndarray:
    """A04: forty harmonics of a pitch in steps of a whole tone (McAulay and Quatieri, 1986), and noise."""
    num_samples = len(speech.waveform)
    envelope = cepstral_envelope(np.abs(stft(speech.waveform)), WORLD_CEPSTRA)
    f0_hz = pitch_by_sample(speech)
    stepped_hz = 110 * 2 ** (np.round(6 * np.log2(np.maximum(f0_hz, 40) / 110)) / 6)
    cycles = np.cumsum(stepped_hz) / SAMPLE_RATE_HZ
    frame_of = np.minimum(np.arange(num_samples) // HOP, len(envelope) - 1)
    phases = 2 * np.pi * rng.random(SINUSOIDS)
    hop_hz = stepped_hz[::HOP]
    hop_frames = frame_of[::HOP]
    total = np.zeros(num_samples)
    fundamental = np.exp(2j * np.pi * cycles)
    harmonic = np.ones(num_samples, dtype=complex)
    for number in range(1, SINUSOIDS + 1):
        harmonic *= fundamental
        bins = number * hop_hz * FFT_SIZE / SAMPLE_RATE_HZ
        is_audible = bins < NUM_BINS - 1
        amplitude = envelope[hop_frames, np.minimum(bins, NUM_BINS - 1).astype(int)] * is_audible
        gain = np.interp(np.arange(num_samples), np.arange(len(bins)) * HOP, amplitude)
        total += gain * (harmonic * np.exp(1j * phases[number - 1])).real
    total *= (f0_hz > 0) * 2 * np.sqrt(np.maximum(stepped_hz, 1) / SAMPLE_RATE_HZ)
    voiced = at_frames(f0_hz, num_samples) > 0
    above = (
        np.linspace(0, SAMPLE_RATE_HZ / 2, NUM_BINS) > SINUSOIDS * at_frames(stepped_hz, num_samples)[:, None]
    )
    noise_share = np.where(voiced[:, None], np.where(above, 1.0, 0.05), 1.0)
    noise = istft(stft(rng.normal(0, 1, num_samples)) * envelope * noise_share, num_samples)
    return (total + noise) / np.sqrt(FFT_SIZE)


def pitch_by_sample(speech: Speech) -> np.ndarray:
    """Returns the pitch in Hz of every sample, 0 where unvoiced."""
    repeats = -(-len(speech.waveform) // len(speech.f0_hz))
    return np.repeat(speech.f0_hz, repeats)[: len(speech.waveform)]


def pulse_train(f0_hz: np.ndarray) -> np.ndarray:
    """Returns pulses of unit power, one a period, with every harmonic below Nyquist and none above."""
    voiced = f0_hz > 0
    pitch_hz = np.maximum(f0_hz, 40)
    half_cycle = np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ
    harmonics = np.floor(0.48 * SAMPLE_RATE_HZ / pitch_hz)
    denominator = np.sin(half_cycle)
    is_peak = np.abs(denominator) < 1e-6
    ratio = np.sin((2 * harmonics + 1) * half_cycle) / np.where(is_peak, 1.0, denominator)
    pulses = np.where(is_peak, 2 * harmonics + 1, ratio) - 1
    return np.where(voiced, pulses / np.sqrt(2 * harmonics), 0.0)


def _levinson(autocorrelation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solves for the predictors `(frames, order + 1)` and their errors `(frames,)` of all frames at once."""
    num_frames, length = autocorrelation.shape
    predictor = np.zeros((num_frames, length))
    predictor[:, 0] = 1
    error = autocorrelation[:, 0].copy()
    for order in range(1, length):
        residual = np.einsum("fi,fi->f", predictor[:, :order], autocorrelation[:, order:0:-1])
        reflection = -residual / error
        predictor[:, 1 : order + 1] += reflection[:, None] * predictor[:, order - 1 :: -1][:, :order]
        error *= 1 - reflection**2
    return predictor, error
