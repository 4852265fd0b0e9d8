"""The transmissions and compressions of the demo corpus, by real codecs.

Telephone and file codecs come from libsndfile and FFmpeg (through PyAV). Every condition takes a waveform at
16 kHz and returns one of the same length at 16 kHz, as the ASVspoof 2021 data were made.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import av
import numpy as np
import soundfile
from scipy.signal import butter, resample_poly, sosfilt

from sls.config import SAMPLE_RATE_HZ

TELEPHONE_RATE_HZ = 8_000
OPUS_RATE_HZ = 48_000


def apply_codec(waveform: np.ndarray, name: str) -> np.ndarray:
    """Sends a 16 kHz waveform through a codec of `CODECS`; a name of two codecs applies both in turn.

    Raises:
        RuntimeError: This build of FFmpeg or libsndfile lacks the codec.
    """
    try:
        coded = CODECS[name](waveform)
    except (av.FFmpegError, soundfile.LibsndfileError) as error:
        raise RuntimeError(f"demo corpus: the codec {name} failed in this build: {error}") from error
    coded = coded[: len(waveform)]
    return np.pad(coded, (0, len(waveform) - len(coded)))


def _through_file(rate_hz: int, container: str, subtype: str) -> Callable[[np.ndarray], np.ndarray]:
    def code(waveform: np.ndarray) -> np.ndarray:
        memory = io.BytesIO()
        soundfile.write(
            memory, _resample(waveform, SAMPLE_RATE_HZ, rate_hz), rate_hz, format=container, subtype=subtype
        )
        memory.seek(0)
        decoded, _ = soundfile.read(memory)
        return _resample(decoded, rate_hz, SAMPLE_RATE_HZ)

    return code


def _vorbis(quality: float) -> Callable[[np.ndarray], np.ndarray]:
    def code(waveform: np.ndarray) -> np.ndarray:
        memory = io.BytesIO()
        soundfile.write(
            memory, waveform, SAMPLE_RATE_HZ, format="OGG", subtype="VORBIS", compression_level=1 - quality
        )
        memory.seek(0)
        return soundfile.read(memory)[0]

    return code


def _through_ffmpeg(
    codec: str, container: str, bit_rate: int, rate_hz: int = SAMPLE_RATE_HZ
) -> Callable[[np.ndarray], np.ndarray]:
    def code(waveform: np.ndarray) -> np.ndarray:
        samples = _resample(waveform, SAMPLE_RATE_HZ, rate_hz)
        pcm = np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16)
        memory = io.BytesIO()
        with av.open(memory, "w", format=container) as output:
            stream = output.add_stream(codec, rate=rate_hz, layout="mono")
            assert isinstance(stream, av.AudioStream)  # every codec of the table codes audio
            stream.bit_rate = bit_rate
            frame = av.AudioFrame.from_ndarray(pcm[None, :], format="s16", layout="mono")
            frame.sample_rate = rate_hz
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                output.mux(packet)
        memory.seek(0)
        with av.open(memory, "r") as coded:
            to_float = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
            decoded = [
                out.to_ndarray() for frame in coded.decode(audio=0) for out in to_float.resample(frame)
            ]
        return _resample(np.concatenate(decoded, axis=1)[0].astype(float), rate_hz, SAMPLE_RATE_HZ)

    return code


def _telephone_line(waveform: np.ndarray) -> np.ndarray:
    """µ-law twice, over an analogue line of 300 to 3,400 Hz between."""
    line = butter(4, (300, 3400), "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    return _MU_LAW(sosfilt(line, _MU_LAW(waveform)))


def _in_turn(
    first: Callable[[np.ndarray], np.ndarray], second: Callable[[np.ndarray], np.ndarray]
) -> Callable[[np.ndarray], np.ndarray]:
    return lambda waveform: second(first(waveform))


def _resample(waveform: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    if from_hz == to_hz:
        return waveform
    divisor = np.gcd(from_hz, to_hz)
    return resample_poly(waveform, to_hz // divisor, from_hz // divisor)


_MU_LAW = _through_file(TELEPHONE_RATE_HZ, "WAV", "ULAW")
_HIGH_M4A = _through_ffmpeg("aac", "mp4", 64_000)
_HIGH_OGG = _vorbis(0.7)

CODECS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda waveform: waveform,
    "alaw": _through_file(TELEPHONE_RATE_HZ, "WAV", "ALAW"),
    "pstn": _telephone_line,
    "g722": _through_ffmpeg("g722", "wav", 64_000),
    "ulaw": _MU_LAW,
    "gsm": _through_file(TELEPHONE_RATE_HZ, "WAV", "GSM610"),
    "opus": _through_ffmpeg("libopus", "ogg", 16_000, OPUS_RATE_HZ),
    "nocodec": lambda waveform: waveform,
    "low_mp3": _through_ffmpeg("libmp3lame", "mp3", 24_000),
    "high_mp3": _through_ffmpeg("libmp3lame", "mp3", 96_000),
    "low_m4a": _through_ffmpeg("aac", "mp4", 20_000),
    "high_m4a": _HIGH_M4A,
    "low_ogg": _vorbis(0.0),
    "high_ogg": _HIGH_OGG,
    "mp3m4a": _in_turn(_through_ffmpeg("libmp3lame", "mp3", 64_000), _HIGH_M4A),
    "oggm4a": _in_turn(_HIGH_OGG, _HIGH_M4A),
}
