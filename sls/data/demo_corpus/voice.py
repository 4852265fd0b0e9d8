"""The voice of the demo corpus: a source-filter synthesizer with natural variation.

The source is a train of glottal pulses (KLGLOTT88's polynomial with an exponential return phase, as the LF
model has; Klatt and Klatt, JASA 1990) with jitter and shimmer, and breath noise that follows the pulses; the
filter a cascade of formant resonators (Klatt, JASA 1980) that move every 5 ms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter, resample_poly

from sls.config import SAMPLE_RATE_HZ
from sls.data.demo_corpus.articulation import FRAME_S, Articulation, articulate

FRAME = round(FRAME_S * SAMPLE_RATE_HZ)  # 80 samples
OVERSAMPLING = 2  # the closure of the glottis is sharper than a sample at 16 kHz
VOICED_FROM = 0.15
INAUDIBLE = 1e-8
BANDWIDTHS_HZ = np.array([70.0, 90.0, 130.0, 190.0, 250.0, 320.0, 400.0])
UPPER_FORMANTS_HZ = np.array([3500.0, 4500.0, 5500.0, 6500.0])


@dataclass(frozen=True)
class Speaker:
    """What stays the same between two utterances of one speaker."""

    f0_hz: float
    tract_scale: float
    """Formants relative to the tables: above 1, a shorter vocal tract."""
    open_quotient: float
    return_phase: float
    """Time constant of the closure, as a share of the period; longer is softer."""
    jitter: float
    shimmer: float
    breathiness: float
    pace: float


@dataclass(frozen=True)
class Speech:
    """A dry utterance `(num_samples,)` at 16 kHz, and its pitch by frame of 5 ms (0 where unvoiced)."""

    waveform: np.ndarray
    f0_hz: np.ndarray


def draw_speaker(rng: np.random.Generator) -> Speaker:
    """Draws a speaker; lower voices tend to have the longer vocal tract."""
    height = rng.uniform(0, 1)
    return Speaker(
        f0_hz=95 * 2 ** (height * 1.2) * rng.normal(1, 0.06),
        tract_scale=0.95 + 0.22 * height + rng.normal(0, 0.02),
        open_quotient=rng.uniform(0.5, 0.7),
        return_phase=rng.uniform(0.015, 0.05),
        jitter=rng.uniform(0.005, 0.015),
        shimmer=rng.uniform(0.03, 0.09),
        breathiness=rng.uniform(0.02, 0.07),
        pace=rng.uniform(0.85, 1.2),
    )


def speak(
    speaker: Speaker,
    num_samples: int,
    rng: np.random.Generator,
    pitch_factor: float = 1.0,
    pace_factor: float = 1.0,
) -> Speech:
    """Says a random text for `num_samples`; the factors change pitch and length of sounds."""
    num_frames = -(-num_samples // FRAME)
    sounds = articulate(num_frames, speaker.pace * pace_factor, rng)
    f0_hz = speaker.f0_hz * pitch_factor * 2 ** (sounds.pitch_semitones / 12)
    source = _source(speaker, sounds, f0_hz, rng)
    formants_hz = sounds.formants_hz * speaker.tract_scale
    voiced = _resonate(source, formants_hz, BANDWIDTHS_HZ[:3] * rng.uniform(0.9, 1.3))
    voiced = _resonate_fixed(voiced, UPPER_FORMANTS_HZ * speaker.tract_scale * rng.normal(1, 0.01))
    noise = rng.normal(0, 1, len(source)) * np.repeat(sounds.frication, FRAME)
    hiss = _resonate(
        np.diff(noise, prepend=0.0), sounds.fricative_hz[:, None], sounds.fricative_bandwidth_hz[:, None]
    )
    waveform = (voiced + 0.07 * hiss)[:num_samples]
    waveform = lfilter([1, -1], [1, -0.985], waveform)  # a recording has no 0 Hz
    return Speech(waveform, np.where(sounds.voicing > VOICED_FROM, f0_hz, 0.0))


def _source(
    speaker: Speaker, sounds: Articulation, f0_hz: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Returns the derivative of the glottal flow with breath noise, at 16 kHz."""
    step = FRAME * OVERSAMPLING
    times = np.arange(len(f0_hz) * step) / step
    pitch_hz = np.interp(times, np.arange(len(f0_hz)), f0_hz)
    cycles = np.cumsum(pitch_hz) / (SAMPLE_RATE_HZ * OVERSAMPLING)
    period = cycles.astype(int)
    num_periods = period[-1] + 2
    wobble = 1 + speaker.jitter * rng.normal(0, 1, num_periods)
    cycles = np.cumsum(pitch_hz * wobble[period]) / (SAMPLE_RATE_HZ * OVERSAMPLING)
    period, phase = cycles.astype(int), cycles % 1
    period = np.minimum(period, num_periods - 1)
    gain = (1 + speaker.shimmer * rng.normal(0, 1, num_periods))[period]
    opening = speaker.open_quotient + 0.02 * rng.normal(0, 1, num_periods)
    open_share = phase / opening[period]
    closing = (phase - opening[period]) / speaker.return_phase
    pulse = np.where(open_share < 1, 2 * open_share - 3 * open_share**2, -np.exp(-np.maximum(closing, 0)))
    pulse = resample_poly(pulse * gain, 1, OVERSAMPLING)
    is_open = (open_share < 1)[::OVERSAMPLING]
    noise = rng.normal(0, 1, len(pulse))
    voicing = np.interp(np.arange(len(pulse)) / FRAME, np.arange(len(f0_hz)), sounds.voicing)
    aspiration = np.interp(np.arange(len(pulse)) / FRAME, np.arange(len(f0_hz)), sounds.aspiration)
    breath = speaker.breathiness * (0.4 + is_open) * voicing + 0.12 * aspiration
    return pulse * voicing + noise * breath


def _resonate(source: np.ndarray, centres_hz: np.ndarray, bandwidths_hz: np.ndarray) -> np.ndarray:
    """Filters by a cascade of resonators whose centres `(frames, resonators)` move every frame."""
    denominators, gains = _resonators(centres_hz, np.broadcast_to(bandwidths_hz, centres_hz.shape))
    state = np.zeros(denominators.shape[1] - 1)
    output = np.empty_like(source)
    for frame, (denominator, gain) in enumerate(zip(denominators, gains, strict=True)):
        span = slice(frame * FRAME, (frame + 1) * FRAME)
        if np.abs(state).max() < INAUDIBLE and not source[span].any():
            output[span], state[:] = 0, 0
            continue
        output[span], state = lfilter([gain], denominator, source[span], zi=state)
    return output


def _resonate_fixed(source: np.ndarray, centres_hz: np.ndarray) -> np.ndarray:
    denominators, gains = _resonators(centres_hz[None, :], BANDWIDTHS_HZ[None, 3:])
    return lfilter([gains[0]], denominators[0], source)


def _resonators(centres_hz: np.ndarray, bandwidths_hz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the denominators `(frames, 2 * resonators + 1)` and the gains that make 0 Hz pass at 1."""
    radius = np.exp(-np.pi * bandwidths_hz / SAMPLE_RATE_HZ)
    angle = 2 * np.pi * np.minimum(centres_hz, 0.48 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    sections = np.stack([np.ones_like(radius), -2 * radius * np.cos(angle), radius**2], axis=-1)
    product = np.ones((len(sections), 1))
    for index in range(sections.shape[1]):
        longer = np.zeros((len(product), product.shape[1] + 2))
        for lag in range(3):
            longer[:, lag : lag + product.shape[1]] += product * sections[:, index, lag, None]
        product = longer
    return product, product.sum(axis=1)
