"""The attacks of the demo corpus's evaluation tracks, A05 to A08: none is heard in training."""

from __future__ import annotations

import numpy as np
from scipy.fft import irfft
from scipy.ndimage import uniform_filter1d

from sls.config import SAMPLE_RATE_HZ
from sls.data.demo_corpus.spectra import (
    FFT_SIZE,
    FLOOR,
    HOP,
    NUM_BINS,
    at_frames,
    istft,
    mel_envelope,
    minimum_phase,
    stft,
)
from sls.data.demo_corpus.vocoders import pitch_by_sample, pulse_train
from sls.data.demo_corpus.voice import Speech

CHANNELS = 24
MEL_BANDS = 60
UNVOICED_STEP = SAMPLE_RATE_HZ // 200  # marks 5 ms apart where there is no pitch
GRAIN_HOP = 160  # 10 ms
GRAIN_SEARCH = 120


def pitch_synchronous(speech: Speech, pitch_ratio: float, rng: np.random.Generator) -> np.ndarray:
    """A05: pitch multiplied by moving two-period grains (TD-PSOLA, Moulines and Charpentier, 1990)."""
    waveform, f0_hz = speech.waveform, pitch_by_sample(speech)
    sources = _pitch_marks(waveform, f0_hz)
    periods = _periods(f0_hz)
    output = np.zeros(len(waveform))
    position = int(rng.integers(1, UNVOICED_STEP))
    while position < len(waveform):
        mark = sources[np.abs(sources - position).argmin()]
        half = periods[mark]
        grain = waveform[max(0, mark - half) : mark + half]
        window = np.hanning(2 * half + 1)[max(0, half - mark) : max(0, half - mark) + len(grain)]
        begin = position - min(half, mark)
        taken = slice(max(0, -begin), max(0, min(len(grain), len(output) - begin)))
        output[begin + taken.start : begin + taken.stop] += (grain * window)[taken]
        is_voiced = f0_hz[position] > 0
        position += max(8, round(periods[position] / pitch_ratio) if is_voiced else periods[position])
    return output


def channel_vocoder(speech: Speech, rng: np.random.Generator) -> np.ndarray:
    """A06: the energies of 24 bands, slowly followed, laid on a buzz and a hiss (Dudley, 1939)."""
    num_samples = len(speech.waveform)
    band_of = np.minimum(
        (CHANNELS * np.log1p(np.linspace(0, 8, NUM_BINS) / 0.7) / np.log1p(8 / 0.7)).astype(int), CHANNELS - 1
    )
    bands = np.eye(CHANNELS)[:, band_of]
    f0_hz = pitch_by_sample(speech)
    unvoiced = at_frames(f0_hz, num_samples) == 0
    carrier = stft(pulse_train(f0_hz) + 0.1 * rng.normal(0, 1, num_samples))
    carrier = np.where(unvoiced[:, None], stft(rng.normal(0, 1, num_samples)), carrier)
    wanted = np.sqrt(np.abs(stft(speech.waveform)) ** 2 @ bands.T)
    found = np.sqrt(np.abs(carrier) ** 2 @ bands.T) + FLOOR
    gains = uniform_filter1d(wanted / found, 3, axis=0)
    return istft(carrier * (gains @ bands), num_samples)


def pulse_responses(speech: Speech, rng: np.random.Generator) -> np.ndarray:
    """A07: at every pitch mark the minimum-phase response of 60 mel bands; noise where there is no pitch."""
    num_samples = len(speech.waveform)
    envelope = mel_envelope(np.abs(stft(speech.waveform)), MEL_BANDS) + FLOOR
    f0_hz = pitch_by_sample(speech)
    marks = np.flatnonzero(np.diff(np.floor(np.cumsum(f0_hz) / SAMPLE_RATE_HZ), prepend=0.0))
    frames = np.minimum((marks + HOP // 2) // HOP, len(envelope) - 1)
    responses = irfft(minimum_phase(envelope[frames]), n=FFT_SIZE, axis=1)
    responses *= np.sqrt(SAMPLE_RATE_HZ / f0_hz[marks])[:, None]
    voiced = np.zeros(num_samples + FFT_SIZE)
    for mark, response in zip(marks, responses, strict=True):
        voiced[mark : mark + FFT_SIZE] += response
    noise_share = np.where(at_frames(f0_hz, num_samples) > 0, 0.2, 1.0)[:, None]
    noise = istft(stft(rng.normal(0, 1, num_samples)) * envelope * noise_share, num_samples)
    return voiced[:num_samples] + noise


def waveform_overlap(speech: Speech, num_samples: int) -> np.ndarray:
    """A08: pieces of 20 ms laid closer or wider (WSOLA, Verhelst and Roelands, 1993) until `num_samples` long."""
    size = 2 * GRAIN_HOP
    stretch = len(speech.waveform) / num_samples
    padded = np.pad(speech.waveform, (GRAIN_SEARCH, GRAIN_SEARCH + 2 * size))
    window = np.hanning(size + 1)[:-1]
    output = np.zeros(num_samples + 2 * size)
    natural = padded[GRAIN_SEARCH : GRAIN_SEARCH + size]
    for begin in range(0, num_samples, GRAIN_HOP):
        first = min(round(begin * stretch), len(padded) - 2 * GRAIN_SEARCH - 2 * size)
        region = padded[first : first + 2 * GRAIN_SEARCH + size]
        chosen = first + int(np.correlate(region, natural, mode="valid").argmax())
        output[begin : begin + size] += window * padded[chosen : chosen + size]
        following = chosen + GRAIN_HOP
        natural = padded[following : following + size]
        natural = np.pad(natural, (0, size - len(natural)))
    return output[GRAIN_HOP // 2 : GRAIN_HOP // 2 + num_samples]


def _periods(f0_hz: np.ndarray) -> np.ndarray:
    """Returns the length in samples of the period around every sample."""
    voiced = np.round(SAMPLE_RATE_HZ / np.maximum(f0_hz, 40)).astype(int)
    return np.where(f0_hz > 0, voiced, UNVOICED_STEP)


def _pitch_marks(waveform: np.ndarray, f0_hz: np.ndarray) -> np.ndarray:
    """Returns one sample a period, on its highest peak where there is a voice."""
    periods = _periods(f0_hz)
    marks = [0]
    while (expected := marks[-1] + periods[marks[-1]]) < len(waveform):
        reach = periods[expected] // 4 if f0_hz[expected] > 0 else 0
        region = np.abs(waveform[expected - reach : expected + reach + 1])
        marks.append(int(expected - reach + region.argmax()))
    return np.array(marks)
