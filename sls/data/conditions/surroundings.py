"""What surrounds a microphone: noise, and the echoes of a room, made or from recordings in a folder."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np

from sls.config import SAMPLE_RATE_HZ
from sls.data.audio.containers import AudioError
from sls.data.audio.recording import inspect_audio, read_audio
from sls.data.audio.windows import draw_crop_start, fit_length
from sls.data.conditions.settings import Within
from sls.data.loading.trial_lists import list_recordings
from sls.data.rawboost.algorithms import white_noise
from sls.files import file_digest

Folder = Annotated[str, "the name of a folder"]
SnrDb = Annotated[float, Within(-100, 100)]
"""Of the energies of the whole recording, its silence with it, and of all the noise."""


def add_white_noise(waveform: np.ndarray, generator: np.random.Generator, *, snr_db: SnrDb) -> np.ndarray:
    """Adds Gaussian noise as strong at every frequency; a silent recording stays as it is."""
    return _mix(waveform, white_noise(len(waveform), generator), snr_db)


def add_pink_noise(waveform: np.ndarray, generator: np.random.Generator, *, snr_db: SnrDb) -> np.ndarray:
    """Adds Gaussian noise as strong in every octave from 20 Hz on; a silent recording stays as it is."""
    from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

    num_samples = next_fast_len(max(len(waveform), SAMPLE_RATE_HZ), real=True)
    spectrum = rfft(white_noise(num_samples, generator))
    spectrum /= np.sqrt(np.maximum(rfftfreq(num_samples, 1 / SAMPLE_RATE_HZ), 20)).astype(np.float32)
    return _mix(waveform, irfft(spectrum, num_samples)[: len(waveform)], snr_db)


def add_recorded_noise(
    waveform: np.ndarray, generator: np.random.Generator, *, folder: Folder, snr_db: SnrDb
) -> np.ndarray:
    """Adds a stretch, drawn by its place, of a recording drawn from a folder; a short one is repeated.

    A recording that is silent, or to which silence was drawn, stays as it is.
    """
    noise = _draw_recording(folder, generator)
    start = draw_crop_start(len(noise), len(waveform), generator)
    return _mix(waveform, fit_length(noise, len(waveform), start), snr_db)


def reverberate(
    waveform: np.ndarray,
    generator: np.random.Generator,
    *,
    rt60_s: Annotated[float, Within(0.01, 10)],
    direct_db: Annotated[float, Within(-60, 60)] = 0,
) -> np.ndarray:
    """Puts a recording into a made room: echoes of Gaussian noise that decays by 60 dB in a time.

    The direct sound has so much more energy than all of them.
    """
    times = np.arange(1, round(rt60_s * SAMPLE_RATE_HZ) + 1) / (rt60_s * SAMPLE_RATE_HZ)
    echoes = white_noise(len(times), generator) * 10 ** (-3 * times)
    echoes *= 10 ** (-direct_db / 20) / np.sqrt(_energy(echoes))
    return _convolve(waveform, np.concatenate([[1.0], echoes]))


def reverberate_by_recording(
    waveform: np.ndarray, generator: np.random.Generator, *, folder: Folder
) -> np.ndarray:
    """Puts a recording into a room whose impulse response, of one channel, is drawn from a folder."""
    return _convolve(waveform, _draw_recording(folder, generator))


def _mix(waveform: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    of_noise = _energy(noise)
    scale = np.sqrt(_energy(waveform) / of_noise) * 10 ** (-snr_db / 20) if of_noise else 0.0
    return waveform + scale * noise


def _convolve(waveform: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Returns a waveform in a room, its direct sound where it was, and its energy what it was."""
    from scipy.signal import oaconvolve  # A second to import, for which other doors are not to wait.

    direct = int(np.argmax(np.abs(response)))
    heard = oaconvolve(waveform.astype(np.float64), response)[direct:][: len(waveform)]
    energy = _energy(heard)
    return heard * np.sqrt(_energy(waveform) / energy) if energy else heard


def _energy(samples: np.ndarray) -> float:
    return float(np.square(samples, dtype=np.float64).sum())


def _draw_recording(folder: str, generator: np.random.Generator) -> np.ndarray:
    paths = _find_recordings(folder)
    return _read(paths[generator.integers(len(paths))])


@lru_cache
def digest_folder(folder: str) -> str:
    """Returns a SHA-256 of the recordings in a folder, their names and what is in them."""
    lines = [
        f"{path.relative_to(folder).as_posix()} {file_digest(path)}\n" for path in _find_recordings(folder)
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@lru_cache
def _find_recordings(folder: str) -> tuple[Path, ...]:
    """Returns the recordings in a folder and below; raises AudioError where the header of one cannot be read."""
    paths = tuple(trial.path for trial in list_recordings(Path(folder), "folder"))
    for path in paths:
        inspect_audio(path)
    return paths


@lru_cache(maxsize=8)  # of minutes each, at most some hundred MB
def _read(path: Path) -> np.ndarray:
    waveform = read_audio(path)
    if not waveform.any():
        raise AudioError(f"{path}: found nothing but silence")
    waveform.setflags(write=False)
    return waveform
