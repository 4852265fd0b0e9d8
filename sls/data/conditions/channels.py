"""What a channel does: its band, its codec, its level, and packets that it loses. Length and alignment stay.

Codecs are the real ones, coded and decoded in memory; they take 16 bits a sample, so that what is beyond full scale
is clipped.
"""

import io
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import soundfile

from sls.config import SAMPLE_RATE_HZ
from sls.data.audio.decoders import decode_by_av
from sls.data.audio.encoders import encode
from sls.data.audio.resampling import resample
from sls.data.conditions.settings import OneOf, Within, check_setting

_NYQUIST_HZ = SAMPLE_RATE_HZ // 2
_ORDER = 8  # of the filters of a band
_SPARE = (0, SAMPLE_RATE_HZ // 10)
"""Zeros behind a waveform: its end comes out of every codec, and none is too short for one, or for a filter."""
_FULL_SCALE = 2**15


@dataclass(frozen=True)
class Codec:
    """A codec as FFmpeg knows it."""

    encoder: str
    container: str
    kbps: OneOf | Within
    """Bit rates that it has at its sampling rate, in kbit/s."""
    rate_hz: int = SAMPLE_RATE_HZ
    delay: int = 0
    """Samples at `rate_hz` that come before the first, and that its decoder does not take off."""


_MPEG_2_KBPS = OneOf((8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160))
_AMR_NB_KBPS = OneOf((4.75, 5.15, 5.9, 6.7, 7.4, 7.95, 10.2, 12.2))
CODECS = {
    "mu-law": Codec("pcm_mulaw", "wav", OneOf((64,)), 8_000),
    "a-law": Codec("pcm_alaw", "wav", OneOf((64,)), 8_000),
    "gsm": Codec("libsndfile", "wav", OneOf((13,)), 8_000),
    "amr-nb": Codec("libopencore_amrnb", "amr", _AMR_NB_KBPS, 8_000, delay=40),
    "g722": Codec("g722", "wav", OneOf((64,)), delay=22),
    "opus": Codec("libopus", "ogg", Within(6, 256)),
    "mp3": Codec("libmp3lame", "mp3", _MPEG_2_KBPS),
    "aac": Codec("aac", "mp4", Within(12, 96), delay=1_024),
}
"""FFmpeg decodes GSM and does not code it; of AMR wideband neither library here has an encoder."""


def code(
    waveform: np.ndarray,
    *,
    codec: Annotated[str, OneOf(tuple(CODECS))],
    kbps: Annotated[float, Within(1, 256)],
) -> np.ndarray:
    """Returns what is left of a waveform behind one of `CODECS`, at one of its bit rates."""
    used = CODECS[codec]
    check_setting(kbps, used.kbps, f"kbps of {codec}")
    narrowed = resample(np.pad(waveform, _SPARE), SAMPLE_RATE_HZ, used.rate_hz)
    pcm = np.clip(np.round(narrowed * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
    if used.encoder == "libsndfile":
        file = io.BytesIO()
        soundfile.write(file, pcm, used.rate_hz, format="WAV", subtype="GSM610")
        coded = file.getvalue()
    else:
        coded = encode(pcm, used.encoder, used.container, used.rate_hz, round(1_000 * kbps))
    decoded, decoded_hz = decode_by_av(coded)
    aligned = decoded[used.delay * decoded_hz // used.rate_hz :, 0]
    return resample(aligned, decoded_hz, SAMPLE_RATE_HZ)[: len(waveform)]


def limit_band(
    waveform: np.ndarray,
    *,
    rate_hz: Annotated[float, Within(2_000, SAMPLE_RATE_HZ)] = SAMPLE_RATE_HZ,
    low_hz: Annotated[float, Within(0, _NYQUIST_HZ)] = 0,
    high_hz: Annotated[float, Within(0, _NYQUIST_HZ)] = _NYQUIST_HZ,
) -> np.ndarray:
    """Keeps a band, by Butterworth filters, and of that what a lower sampling rate holds."""
    from scipy.signal import butter, sosfilt  # A second to import, for which other doors are not to wait.

    if low_hz >= high_hz:
        raise ValueError(f"found low_hz {low_hz:g}, expected less than high_hz, {high_hz:g}")
    kept = np.pad(waveform.astype(np.float64), _SPARE)
    if low_hz > 0:
        kept = sosfilt(butter(_ORDER, low_hz, "highpass", fs=SAMPLE_RATE_HZ, output="sos"), kept)
    if high_hz < _NYQUIST_HZ:
        kept = sosfilt(butter(_ORDER, high_hz, "lowpass", fs=SAMPLE_RATE_HZ, output="sos"), kept)
    lowered = resample(kept, SAMPLE_RATE_HZ, round(rate_hz))
    return resample(lowered, round(rate_hz), SAMPLE_RATE_HZ)[: len(waveform)]


def change_gain(waveform: np.ndarray, *, gain_db: Annotated[float, Within(-100, 100)]) -> np.ndarray:
    """Makes a recording louder or softer, and clips it at full scale as what stores it would."""
    return np.clip(waveform * np.float64(10 ** (gain_db / 20)), -1, 1)


def clip_peaks(waveform: np.ndarray, *, share: Annotated[float, Within(0, 1)]) -> np.ndarray:
    """Clips a recording at the level that a share of its samples reaches; its zeros do not count."""
    magnitudes = np.abs(waveform[waveform != 0])
    if len(magnitudes) == 0:
        return waveform
    level = np.quantile(magnitudes, 1 - share, method="lower")
    return np.clip(waveform, -level, level)


def lose_packets(
    waveform: np.ndarray,
    generator: np.random.Generator,
    *,
    share: Annotated[float, Within(0, 1)],
    packet_ms: Annotated[float, Within(1, 1_000)] = 20,
    burst: Annotated[float, Within(0, 1_000)] = 0,
) -> np.ndarray:
    """Replaces lost packets by zeros, each lost or not whatever became of the others.

    From a burst of 1 on, so many in a row are lost, on average, by a chain of two states (Gilbert, 1960).
    """
    after_lost = after_kept = share
    if burst >= 1:
        if share > burst / (burst + 1):
            most = burst / (burst + 1)
            raise ValueError(f"found share {share:g}, expected at most {most:g} in bursts of {burst:g}")
        after_lost, after_kept = 1 - 1 / burst, share / (burst * (1 - share))
    packet = round(packet_ms * SAMPLE_RATE_HZ / 1_000)
    draws = generator.random(-(-len(waveform) // packet))
    lost = np.empty(len(draws), np.bool_)
    chance = share
    for number, draw in enumerate(draws.tolist()):
        lost[number] = draw < chance
        chance = after_lost if lost[number] else after_kept
    return np.where(np.repeat(lost, packet)[: len(waveform)], np.float32(0), waveform)
