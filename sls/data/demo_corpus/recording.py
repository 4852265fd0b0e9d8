"""Makes the recordings: what is said, who spoofed it, where it was recorded, and what it was sent through.

As a program, it makes one of several shares of the corpus. After the attack nothing looks at the class: what is drawn
(how long the silences are, how loud the recording is, where its band ends) cannot tell bona fide from spoofed.
"""

import io
import sys
import zlib
from pathlib import Path

import numpy as np
import soundfile
from scipy.fft import irfft, next_fast_len, rfft

from sls.config import SAMPLE_RATE_HZ
from sls.data.demo_corpus.attacks import spoof
from sls.data.demo_corpus.codecs import apply_codec, resample
from sls.data.demo_corpus.plan import BONAFIDE, DemoTrial, plan_corpus
from sls.data.demo_corpus.tables import audio_path
from sls.data.demo_corpus.voice import speak
from sls.files import naming

SPEECH_S = (0.9, 1.9)
SILENCE_S = (0.05, 0.25)
FADE = SAMPLE_RATE_HZ // 100  # 10 ms
LEVEL_DBFS = (-34, -20)
PEAK = 0.97
# From and to: reverberation time in s, direct sound against reverberation in dB, speech against noise in dB.
STUDIO = ((0.1, 12, 30), (0.3, 25, 50))
WILD = ((0.2, 3, 15), (0.6, 15, 40))
WILD_FORMATS = ((16_000, "PCM_16", 1), (22_050, "PCM_24", 1), (44_100, "PCM_32", 2), (8_000, "ULAW", 1))
"""Rate in Hz, encoding and channels of the WAV files In the Wild, which take turns."""


def make_trial(trial: DemoTrial, seed: int) -> np.ndarray:
    """Returns the trial's samples at 16 kHz, `(num_samples,)`.

    What is drawn depends on the seed and the trial's name alone, whichever process makes it.
    """
    rng = np.random.default_rng([seed, zlib.crc32(f"{trial.part} {trial.name}".encode())])
    speaker = np.random.default_rng([seed, zlib.crc32(trial.speaker.encode())])
    speech = speak(round(rng.uniform(*SPEECH_S) * SAMPLE_RATE_HZ), speaker, rng)
    dry = speech.waveform if trial.attack == BONAFIDE else spoof(speech, trial.attack, rng)
    recording = record(dry, rng, is_trimmed=trial.subset == "hidden", is_wild=trial.part == "In-the-Wild")
    return apply_codec(recording, trial.codec)


def record(dry: np.ndarray, rng: np.random.Generator, *, is_trimmed: bool, is_wild: bool) -> np.ndarray:
    """Returns the recording of a dry utterance within ±`PEAK`: silences, a room, a microphone, noise and a level."""
    rt60_s, direct_db, snr_db = rng.uniform(*(WILD if is_wild else STUDIO))
    lead, trail = (rng.uniform(*SILENCE_S, 2) * SAMPLE_RATE_HZ * (not is_trimmed)).astype(int)
    fade = np.minimum(1, (np.arange(len(dry)) + 1) / FADE)
    clean = np.pad(dry * fade * fade[::-1], (lead, trail))
    # The room: the direct sound, then noise that decays by 60 dB in the reverberation time.
    times_s = np.arange(round(rt60_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    room = rng.normal(0, 1, len(times_s)) * 10 ** (-3 * times_s / rt60_s) * (times_s > 0.002)
    room *= np.sqrt(10 ** (-direct_db / 10) / np.sum(room**2))
    room[0] = 1
    size = next_fast_len(len(clean) + len(room), real=True)
    # The microphone: a tilt of 2 dB an octave at most, and both ends of its band.
    frequencies_hz = np.maximum(np.linspace(0, SAMPLE_RATE_HZ / 2, size // 2 + 1), 1)
    low_end, high_end = rng.uniform(40, 110) / frequencies_hz, frequencies_hz / rng.uniform(6500, 7800)
    tilt = (np.maximum(frequencies_hz, 50) / 1000) ** rng.uniform(-0.3, 0.3)
    microphone = tilt / np.sqrt((1 + low_end**6) * (1 + high_end**24))
    speech = irfft(rfft(clean, size) * rfft(room, size) * microphone, size)[: len(clean)]
    noise = irfft(rfft(rng.normal(0, 1, len(clean)), size) * microphone, size)[: len(clean)]
    power = np.mean(speech[lead : len(clean) - trail] ** 2)
    mixture = speech + noise * np.sqrt(power / 10 ** (snr_db / 10) / np.mean(noise**2))
    mixture *= 10 ** (rng.uniform(*LEVEL_DBFS) / 20) / np.sqrt(power)
    return mixture * min(1, PEAK / np.abs(mixture).max())


def main(root: str, seed: str, scale: str, num_shares: str, share: str) -> None:
    """Makes every `num_shares`-th recording, from `share` on, under a root whose directories exist."""
    for trial in plan_corpus(int(seed), float(scale))[int(share) :: int(num_shares)]:
        path, rate_hz, subtype, num_channels = Path(root) / audio_path(trial), SAMPLE_RATE_HZ, "PCM_16", 1
        if trial.part == "In-the-Wild":
            rate_hz, subtype, num_channels = WILD_FORMATS[int(path.stem) % len(WILD_FORMATS)]
        waveform = np.clip(resample(make_trial(trial, int(seed)), SAMPLE_RATE_HZ, rate_hz), -1, 1)
        content = io.BytesIO()  # since libsndfile does not say why a file could not be written
        samples, form = np.tile(waveform[:, None], num_channels), path.suffix.removeprefix(".")
        soundfile.write(content, samples, rate_hz, format=form, subtype=subtype)
        with naming(path):
            path.write_bytes(content.getvalue())


if __name__ == "__main__":
    main(*sys.argv[1:])
