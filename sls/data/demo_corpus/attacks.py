"""The attacks of the demo corpus: each makes the waveform of an utterance anew, with artefacts of its own.

There are five kinds, each a function here, which `plan` names and gives a few settings.
"""

from collections.abc import Callable

import numpy as np
from scipy.fft import irfft, rfft

from sls.config import SAMPLE_RATE_HZ
from sls.data.demo_corpus.plan import ATTACKS
from sls.data.demo_corpus.voice import FFT_SIZE, HOP, NUM_BINS, Speech, istft, stft

FLOOR = 1e-9
LONG_TERM_CEPSTRA = 20
FADE = SAMPLE_RATE_HZ // 200  # 5 ms


def spoof(speech: Speech, attack: str, rng: np.random.Generator) -> np.ndarray:
    """Returns the utterance `(num_samples,)` as an attack makes it.

    It keeps its long-term level, its peak and its coarse spectrum, so that none of them betrays it.
    """
    kind, settings = ATTACKS[attack]
    made = KINDS[kind](speech, rng, **settings)
    peak = np.abs(speech.waveform).max()
    made = peak * np.tanh(made / made.std() * speech.waveform.std() / peak)
    spectra, original = stft(made), stft(speech.waveform)
    found, wanted = ((np.abs(each) ** 2).mean(axis=0) for each in (spectra, original))
    gains = np.abs(minimum_phase(np.sqrt(wanted / (found + FLOOR)), LONG_TERM_CEPSTRA))
    return istft(spectra * np.clip(gains, 0.03, 30), len(speech.waveform))


def minimum_phase(magnitudes: np.ndarray, num_cepstra: int) -> np.ndarray:
    """Smooths magnitudes `(..., NUM_BINS)` to some cepstra, and gives them the minimum phase."""
    cepstra = irfft(np.log(magnitudes + FLOOR), n=FFT_SIZE)
    cepstra[..., 1:] *= 2
    cepstra[..., num_cepstra:] = 0
    return np.exp(rfft(cepstra))


def _lose_phase(
    speech: Speech, rng: np.random.Generator, num_cepstra: int, num_rounds: int = 0, spread: float = np.pi
) -> np.ndarray:
    """Smooths the magnitudes to some cepstra, and scatters the phases by so many radians.

    From there, phases are sought by rounds of Griffin and Lim's iteration (1984).
    """
    spectra = stft(speech.waveform)
    magnitudes = np.abs(minimum_phase(np.abs(spectra), num_cepstra))
    spectra = magnitudes * np.exp(1j * (np.angle(spectra) + rng.uniform(-spread, spread, spectra.shape)))
    for _ in range(num_rounds):
        spectra = stft(istft(spectra, len(speech.waveform)))
        spectra *= magnitudes / (np.abs(spectra) + FLOOR)
    return istft(spectra, len(speech.waveform))


def _vocode(
    speech: Speech, rng: np.random.Generator, num_cepstra: int, noise_from_hz: float, flatness: float = 0.0
) -> np.ndarray:
    """Lays a smooth envelope of minimum phase on pulses below a frequency, and on noise above and where unvoiced.

    `flatness` draws the pitch towards its median.
    """
    num_samples = len(speech.waveform)
    is_voiced = speech.f0_hz > 0
    median_hz = np.median(speech.f0_hz[is_voiced]) if is_voiced.any() else 100.0
    f0_hz = is_voiced * median_hz * (np.maximum(speech.f0_hz, 1) / median_hz) ** (1 - flatness)
    pulses = np.diff(np.floor(np.cumsum(f0_hz / SAMPLE_RATE_HZ)), prepend=0.0)
    spectra = stft(speech.waveform)
    is_noise = np.linspace(0, SAMPLE_RATE_HZ / 2, NUM_BINS) >= noise_from_hz
    is_noise = is_noise | ~np.append(is_voiced, [False] * HOP)[::HOP, None]
    noise = stft(rng.normal(0, np.sqrt(median_hz / SAMPLE_RATE_HZ), num_samples))
    excitation = np.where(is_noise, noise, stft(pulses))
    return istft(excitation * minimum_phase(np.abs(spectra), num_cepstra), num_samples)


def _concatenate(speech: Speech, rng: np.random.Generator, unit_s: float) -> np.ndarray:
    """Joins units of the utterance in another order, faded at their ends and of either polarity."""
    num_samples = len(speech.waveform)
    num_units = max(2, round(num_samples / unit_s / SAMPLE_RATE_HZ))
    units = np.split(speech.waveform, np.sort(rng.choice(num_samples, num_units - 1, replace=False)))
    joined = []
    for index in rng.permutation(num_units):
        steps = np.arange(len(units[index]))
        fades = np.minimum(1, np.minimum(steps, steps[::-1]) / FADE)
        joined.append(rng.choice((-1, 1)) * fades * units[index])
    return np.concatenate(joined)


def _convert(speech: Speech, rng: np.random.Generator, warp: float, dispersion: float) -> np.ndarray:
    """Moves the formants by a factor, filtering frame by frame, with a phase of its own for every frequency."""
    spectra = stft(speech.waveform)
    envelope = np.abs(minimum_phase(np.abs(spectra), num_cepstra=24))
    warped = envelope[:, np.minimum(np.arange(NUM_BINS) / warp, NUM_BINS - 1).astype(int)]
    phases = np.exp(1j * dispersion * rng.normal(0, 1, NUM_BINS))
    return istft(spectra * np.clip(warped / envelope, 0.1, 10) * phases, len(speech.waveform))


def _quantise(speech: Speech, rng: np.random.Generator, num_steps: int) -> np.ndarray:
    """Rounds what is left of a whitened waveform to few levels, as a codec of tokens does."""
    spectra = stft(speech.waveform)
    envelope = np.abs(minimum_phase(np.abs(spectra), num_cepstra=30))
    residual = istft(spectra / envelope, len(speech.waveform))
    steps = np.round(residual / residual.std() * num_steps / 3)
    return istft(stft(steps) * envelope, len(residual))


KINDS: dict[str, Callable[..., np.ndarray]] = {
    "neural_vocoder_autoregressive": _quantise,
    "neural_vocoder_nonautoregressive": _lose_phase,
    "traditional_vocoder": _vocode,
    "waveform_concatenation": _concatenate,
    "unknown": _convert,
}
