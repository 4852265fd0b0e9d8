"""The transmissions and compressions of the demo corpus, by real codecs.

They come from FFmpeg through PyAV; GSM and Vorbis of one channel, which it cannot encode, from libsndfile. Every
condition takes a waveform at 16 kHz and returns one of the same length and rate, as the ASVspoof 2021 data were made.
"""

import io
from collections.abc import Callable
from functools import partial

import av
import numpy as np
import soundfile
from scipy.signal import butter, resample_poly, sosfilt

from sls.config import SAMPLE_RATE_HZ
from sls.data.audio.decoders import decode_by_av
from sls.data.audio.encoders import encode


def apply_codec(waveform: np.ndarray, name: str) -> np.ndarray:
    """Sends a 16 kHz waveform through steps of `CODECS`; raises RuntimeError where this build lacks the codec."""
    coded = waveform
    try:
        for step in CODECS[name]:
            coded = step(coded)[: len(waveform)]
    except (av.FFmpegError, soundfile.LibsndfileError) as error:
        raise RuntimeError(f"demo corpus: the codec {name} failed in this build: {error}") from error
    return np.pad(coded, (0, len(waveform) - len(coded)))


def resample(waveform: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Returns the waveform `(num_samples,)` at another rate."""
    divisor = np.gcd(from_hz, to_hz)
    return waveform if from_hz == to_hz else resample_poly(waveform, to_hz // divisor, from_hz // divisor)


def _through_ffmpeg(
    waveform: np.ndarray, codec: str, container: str, bit_rate: int = 0, rate_hz: int = SAMPLE_RATE_HZ
) -> np.ndarray:
    pcm = np.round(np.clip(resample(waveform, SAMPLE_RATE_HZ, rate_hz), -1, 1) * 32767).astype(np.int16)
    decoded, _ = decode_by_av(encode(pcm, codec, container, rate_hz, bit_rate))
    return resample(decoded[:, 0].astype(float), rate_hz, SAMPLE_RATE_HZ)


def _through_sndfile(
    waveform: np.ndarray, container: str, subtype: str, rate_hz: int, level: float | None = None
) -> np.ndarray:
    memory = io.BytesIO()
    samples = resample(waveform, SAMPLE_RATE_HZ, rate_hz)
    soundfile.write(memory, samples, rate_hz, format=container, subtype=subtype, compression_level=level)
    memory.seek(0)
    return resample(soundfile.read(memory)[0], rate_hz, SAMPLE_RATE_HZ)


_TELEPHONE_LINE = partial(sosfilt, butter(4, (300, 3400), "bandpass", fs=SAMPLE_RATE_HZ, output="sos"))
_MU_LAW = partial(_through_ffmpeg, codec="pcm_mulaw", container="wav", rate_hz=8_000)
_MP3 = partial(_through_ffmpeg, codec="libmp3lame", container="mp3")
_M4A = partial(_through_ffmpeg, codec="aac", container="mp4")
_OGG = partial(_through_sndfile, container="OGG", subtype="VORBIS", rate_hz=SAMPLE_RATE_HZ)
_HIGH_M4A, _HIGH_OGG = partial(_M4A, bit_rate=64_000), partial(_OGG, level=0.3)

CODECS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], ...]] = {
    "none": (),
    "alaw": (partial(_through_ffmpeg, codec="pcm_alaw", container="wav", rate_hz=8_000),),
    "pstn": (_MU_LAW, _TELEPHONE_LINE, _MU_LAW),
    "g722": (partial(_through_ffmpeg, codec="g722", container="wav", bit_rate=64_000),),
    "ulaw": (_MU_LAW,),
    "gsm": (partial(_through_sndfile, container="WAV", subtype="GSM610", rate_hz=8_000),),
    "opus": (partial(_through_ffmpeg, codec="libopus", container="ogg", bit_rate=16_000, rate_hz=48_000),),
    "nocodec": (),
    "low_mp3": (partial(_MP3, bit_rate=24_000),),
    "high_mp3": (partial(_MP3, bit_rate=96_000),),
    "low_m4a": (partial(_M4A, bit_rate=20_000),),
    "high_m4a": (_HIGH_M4A,),
    "low_ogg": (partial(_OGG, level=1.0),),
    "high_ogg": (_HIGH_OGG,),
    "mp3m4a": (partial(_MP3, bit_rate=64_000), _HIGH_M4A),
    "oggm4a": (_HIGH_OGG, _HIGH_M4A),
}
