"""One trial of the demo corpus: from the plan to the samples of its file."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from sls.config import SAMPLE_RATE_HZ
from sls.data.demo_corpus.codecs import apply_codec
from sls.data.demo_corpus.plan import BONAFIDE, DemoTrial
from sls.data.demo_corpus.recording import FOUND, STUDIO, record
from sls.data.demo_corpus.spectra import match_long_term_spectrum
from sls.data.demo_corpus.unseen_vocoders import (
    channel_vocoder,
    pitch_synchronous,
    pulse_responses,
    waveform_overlap,
)
from sls.data.demo_corpus.vocoders import griffin_lim, harmonic_plus_noise, linear_prediction, sinusoidal
from sls.data.demo_corpus.voice import Speaker, draw_speaker, speak

PITCH_RATIOS = (0.75, 1.33)
STRETCHES = (0.75, 1.33)

RESYNTHESES = {
    "A01": griffin_lim,
    "A02": linear_prediction,
    "A03": harmonic_plus_noise,
    "A04": sinusoidal,
    "A06": channel_vocoder,
    "A07": pulse_responses,
}


def make_trial(trial: DemoTrial, seed: int) -> np.ndarray:
    """Returns the trial's samples, int16 `(num_samples,)` at `trial.rate_hz`.

    What is drawn depends on the seed and the trial's name alone, whichever process makes it.
    """
    rng = np.random.default_rng([seed, zlib.crc32(trial.name.encode()), zlib.crc32(trial.part.encode())])
    speaker = draw_speaker(np.random.default_rng([seed, zlib.crc32(trial.speaker.encode())]))
    dry = say(speaker, trial.attack, round(trial.speech_s * SAMPLE_RATE_HZ), rng)
    surroundings = FOUND if trial.part == "In-the-Wild" else STUDIO
    recording = apply_codec(record(dry, trial.lead_s, trial.trail_s, surroundings, rng), trial.codec)
    if trial.rate_hz != SAMPLE_RATE_HZ:
        divisor = np.gcd(trial.rate_hz, SAMPLE_RATE_HZ)
        recording = resample_poly(recording, trial.rate_hz // divisor, SAMPLE_RATE_HZ // divisor)
    return np.round(np.clip(recording, -1, 1) * np.iinfo(np.int16).max).astype(np.int16)


def say(speaker: Speaker, attack: str, num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Returns a dry utterance of a speaker, as it was said or as an attack made it anew.

    An attack that changes pitch or tempo starts from speech which is off by as much the other way, so that
    what comes out has the pitch and the tempo of bona fide speech.
    """
    if attack == BONAFIDE:
        return speak(speaker, num_samples, rng).waveform
    if attack == "A05":
        ratio = rng.choice(PITCH_RATIOS)
        original = speak(speaker, num_samples, rng, pitch_factor=1 / ratio)
        spoofed = pitch_synchronous(original, ratio, rng)
    elif attack == "A08":
        stretch = rng.choice(STRETCHES)
        original = speak(speaker, round(num_samples * stretch), rng, pace_factor=stretch)
        spoofed = waveform_overlap(original, num_samples)
    else:
        original = speak(speaker, num_samples, rng)
        spoofed = RESYNTHESES[attack](original, rng)
    return match_long_term_spectrum(spoofed, original.waveform)


def write_trial(trial: DemoTrial, seed: int, path: Path) -> None:
    """Makes a trial and writes it as 16-bit FLAC or WAV, by the name of the file."""
    soundfile.write(path, make_trial(trial, seed), trial.rate_hz, subtype="PCM_16")
