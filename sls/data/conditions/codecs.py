"""Speech and music codecs, the real ones: coded and decoded in memory, and aligned with what was coded.

They take 16 bits a sample, so that what is beyond full scale is clipped.
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

_FULL_SCALE = 2**15
_SPARE = SAMPLE_RATE_HZ // 10
"""Zeros behind a waveform: its end comes out of every codec, and none is too short for one."""


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
    narrowed = resample(np.pad(waveform, (0, _SPARE)), SAMPLE_RATE_HZ, used.rate_hz)
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
