"""The voice of the demo corpus: random syllables, as glottal pulses and noise through moving formants.

A source-filter synthesizer: pulses of KLGLOTT88's shape with a return phase (Klatt and Klatt, JASA 1990), with
jitter, shimmer and breath, through formants rounded from Peterson and Barney (JASA 1952) and Klatt (JASA 1980).
"""

from dataclasses import dataclass

import numpy as np
from scipy import signal
from scipy.ndimage import gaussian_filter1d

from sls.config import SAMPLE_RATE_HZ

FFT_SIZE, HOP = 512, 128  # 32 and 8 ms
NUM_BINS = FFT_SIZE // 2 + 1
FRAME_S = HOP / SAMPLE_RATE_HZ
UPPER_FORMANTS_HZ = (3500, 4500, 5500, 6500)
BANDWIDTHS_HZ = (70, 90, 130, 190, 250, 320, 400)
JITTER, SHIMMER, BREATH = 0.01, 0.06, 0.045
VOWELS_HZ = ((280, 2250, 2900), (550, 1800, 2500), (710, 1100, 2450), (560, 850, 2410), (310, 870, 2250))
# What stands before a vowel, one sound or two: formants in Hz (0: the vowel's), voicing, noise with its centre and
# bandwidth in Hz, and seconds.
CONSONANTS = (
    ((270, 1600, 2500, 0.5, 0, 4000, 3000, 0.06),),  # n
    ((0, 0, 0, 0, 0.9, 5600, 1700, 0.1),),  # s
    ((0, 0, 0, 0, 1.0, 3100, 1300, 0.1),),  # sh
    ((0, 0, 0, 0.5, 0.5, 5200, 2000, 0.08),),  # z
    ((0, 0, 0, 0, 0, 4000, 3000, 0.06), (0, 0, 0, 0, 0.8, 4000, 3000, 0.02)),  # t
    ((0, 0, 0, 0, 0, 4000, 3000, 0.15),),  # a pause
)


@dataclass(frozen=True)
class Speech:
    """A dry utterance `(num_samples,)` at 16 kHz, and its pitch at every sample (0 where unvoiced)."""

    waveform: np.ndarray
    f0_hz: np.ndarray


def speak(num_samples: int, speaker: np.random.Generator, rng: np.random.Generator) -> Speech:
    """Says a random text for `num_samples`; what stays the same of a speaker is drawn from a generator of its own."""
    tracks = _draw_syllables(-(-num_samples // HOP) + 1, rng)
    height = speaker.uniform(0, 1)  # of the voice; lower ones have the longer vocal tract
    melody = np.linspace(2, -2.5, len(tracks)) + 6 * gaussian_filter1d(rng.normal(0, 1, len(tracks)), 12)
    f0_hz = _at_samples(95 * 2 ** (1.2 * height + melody / 12), num_samples)
    voicing = _at_samples(tracks[:, 3], num_samples)
    voiced = stft(
        voicing * _glottal_source(f0_hz, speaker.uniform(0.5, 0.7), speaker.uniform(0.015, 0.05), rng)
    )
    for formant_hz, bandwidth_hz in zip((*tracks.T[:3], *UPPER_FORMANTS_HZ), BANDWIDTHS_HZ, strict=True):
        voiced *= _resonance(formant_hz * (0.95 + 0.22 * height), bandwidth_hz)
    noise = np.diff(rng.normal(0, 1, num_samples), prepend=0.0) * _at_samples(tracks[:, 4], num_samples)
    hiss = stft(noise) * _resonance(tracks[:, 5], tracks[:, 6])
    return Speech(istft(voiced + 0.07 * hiss, num_samples), np.where(voicing > 0.3, f0_hz, 0.0))


def stft(waveform: np.ndarray) -> np.ndarray:
    """Returns the spectra of frames centred on every `HOP` samples, shape `(frames, NUM_BINS)`."""
    return signal.stft(waveform, nperseg=FFT_SIZE, noverlap=FFT_SIZE - HOP)[2].T


def istft(spectra: np.ndarray, num_samples: int) -> np.ndarray:
    """Returns the waveform `(num_samples,)` whose frames are closest to the spectra (least squares)."""
    return signal.istft(spectra.T, nperseg=FFT_SIZE, noverlap=FFT_SIZE - HOP)[1][:num_samples]


def _draw_syllables(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Returns formants, voicing and noise by frame, as in the tables but smooth, `(num_frames, 7)`."""
    rows: list[np.ndarray] = []
    while len(rows) < num_frames:
        vowel_hz = VOWELS_HZ[rng.integers(len(VOWELS_HZ))] * rng.normal(1, 0.05, 3)
        vowel = (0, 0, 0, rng.uniform(0.8, 1.1), 0, 4000, 3000, 0.13)
        for sound in (*CONSONANTS[rng.integers(len(CONSONANTS))], vowel):
            formants_hz = np.where(np.array(sound[:3]) == 0, vowel_hz, sound[:3])
            duration_s = sound[7] * rng.uniform(0.6, 1.5)
            rows += [np.append(formants_hz, sound[3:7])] * max(1, round(duration_s / FRAME_S))
    tracks = np.array(rows[:num_frames])
    for columns, smoothing_s in ((slice(3), 0.018), (slice(3, 7), 0.007)):
        tracks[:, columns] = gaussian_filter1d(tracks[:, columns], smoothing_s / FRAME_S, axis=0)
    return tracks


def _glottal_source(
    f0_hz: np.ndarray, open_quotient: float, return_phase: float, rng: np.random.Generator
) -> np.ndarray:
    """Returns the derivative of the glottal flow, and breath, most of it while the glottis is open.

    `open_quotient` and `return_phase`, the time constant of the closure, are shares of the period.
    """
    period = np.cumsum(f0_hz / SAMPLE_RATE_HZ).astype(int)
    jitter, shimmer = 1 + rng.normal(0, 1, (2, period[-1] + 1)) * [[JITTER], [SHIMMER]]
    phase = np.cumsum(f0_hz * jitter[period] / SAMPLE_RATE_HZ) % 1
    share = phase / open_quotient
    closed = np.exp(-np.maximum(phase - open_quotient, 0) / return_phase)
    pulses = np.where(share < 1, 2 * share - 3 * share**2, -closed) * shimmer[period]
    return pulses + BREATH * (0.4 + (share < 1)) * rng.normal(0, 1, len(f0_hz))


def _resonance(centres_hz: np.ndarray | float, bandwidths_hz: np.ndarray | float) -> np.ndarray:
    """Returns the responses `(frames, NUM_BINS)` of resonators that pass 0 Hz at 1; one frame of a fixed one."""
    radius = np.exp(-np.pi * np.reshape(bandwidths_hz, (-1, 1)) / SAMPLE_RATE_HZ)
    angle = 2 * np.pi * np.minimum(np.reshape(centres_hz, (-1, 1)) / SAMPLE_RATE_HZ, 0.48)
    delay = np.exp(-1j * np.linspace(0, np.pi, NUM_BINS))
    first, second = -2 * radius * np.cos(angle), radius**2
    return (1 + first + second) / (1 + delay * (first + second * delay))


def _at_samples(track: np.ndarray, num_samples: int) -> np.ndarray:
    return np.interp(np.arange(num_samples) / HOP, np.arange(len(track)), track)
