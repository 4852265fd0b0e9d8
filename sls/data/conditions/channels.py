"""What a channel does: its band, and the codecs by which it carries speech.

Each function takes a waveform at `SAMPLE_RATE_HZ` and a generator, and returns a waveform of the same length. Codecs
are the real ones, of FFmpeg or libsndfile; they clip what is beyond full scale, and what they put before the first
sample is taken off.
"""

from typing import Annotated

import numpy as np

from sls.config import SAMPLE_RATE_HZ
from sls.data.audio.decoders import decode_by_av
from sls.data.audio.encoders import encode
from sls.data.audio.resampling import resample
from sls.data.conditions.settings import OneOf, Within

_FULL_SCALE = 2**15
_SPARE = SAMPLE_RATE_HZ // 10
"""Zeros behind a waveform, so that its end comes out of a codec, and that none is too short for one."""


def limit_band(
    waveform: np.ndarray,
    generator: np.random.Generator,
    *,
    rate_hz: Annotated[float, Within(2_000, SAMPLE_RATE_HZ)] = SAMPLE_RATE_HZ,
    low_hz: Annotated[float, Within(0, SAMPLE_RATE_HZ / 2)] = 0,
    high_hz: Annotated[float, Within(0, SAMPLE_RATE_HZ / 2)] = SAMPLE_RATE_HZ / 2,
) -> np.ndarray:
    """Keeps a band, by Butterworth filters of the eighth order, then what a lower sampling rate holds of it."""
    from scipy.signal import butter, sosfilt  # A second to import, for which other doors are not to wait.

    del generator
    if low_hz >= high_hz:
        raise ValueError(f"found low_hz {low_hz:g}, expected less than high_hz, {high_hz:g}")
    kept = waveform.astype(np.float64)
    if low_hz > 0:
        kept = sosfilt(butter(8, low_hz, "highpass", fs=SAMPLE_RATE_HZ, output="sos"), kept)
    if high_hz < SAMPLE_RATE_HZ / 2:
        kept = sosfilt(butter(8, high_hz, "lowpass", fs=SAMPLE_RATE_HZ, output="sos"), kept)
    padded = np.pad(kept, (0, _SPARE))
    lowered = resample(padded, SAMPLE_RATE_HZ, int(rate_hz))
    return resample(lowered, int(rate_hz), SAMPLE_RATE_HZ)[: len(waveform)]


def code_mu_law(waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """G.711 with the mu-law of North America and Japan, 64 kbit/s."""
    del generator
    return _through_ffmpeg(waveform, "pcm_mulaw", "wav", 8_000)


def code_a_law(waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """G.711 with the A-law of the rest of the world, 64 kbit/s."""
    del generator
    return _through_ffmpeg(waveform, "pcm_alaw", "wav", 8_000)


def code_opus(
    waveform: np.ndarray, generator: np.random.Generator, *, kbps: Annotated[float, Within(6, 256)]
) -> np.ndarray:
    """Opus, of voice over IP and of messengers."""
    del generator
    return _through_ffmpeg(waveform, "libopus", "ogg", SAMPLE_RATE_HZ, kbps)


def code_mp3(
    waveform: np.ndarray,
    generator: np.random.Generator,
    *,
    kbps: Annotated[float, OneOf((8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160))],
) -> np.ndarray:
    """MP3, of MPEG-2 since its rate is that."""
    del generator
    return _through_ffmpeg(waveform, "libmp3lame", "mp3", SAMPLE_RATE_HZ, kbps)


def _through_ffmpeg(
    waveform: np.ndarray, codec: str, container: str, rate_hz: int, kbps: float = 0, delay: int = 0
) -> np.ndarray:
    """Codes a waveform at a codec's rate, decodes it, and takes the codec's delay off, samples at that rate."""
    narrowed = resample(np.pad(waveform, (0, _SPARE)), SAMPLE_RATE_HZ, rate_hz)
    pcm = np.clip(np.round(narrowed * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
    decoded, decoded_hz = decode_by_av(encode(pcm, codec, container, rate_hz, round(1_000 * kbps)))
    coded = resample(decoded[:, 0], decoded_hz, SAMPLE_RATE_HZ)
    return coded[delay * SAMPLE_RATE_HZ // rate_hz :][: len(waveform)]
