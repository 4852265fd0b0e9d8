"""Recordings as clients send them: good ones of every form, and bad ones with the reason why."""

import base64
import io

import av
import numpy as np
import pandas as pd
import soundfile

NUM_SAMPLES = 8_000


def made_speech(duration_s: float, rate_hz: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time_s = np.arange(int(duration_s * rate_hz)) / rate_hz
    columns = [0.3 * np.sin(2 * np.pi * (150 + 40 * n) * time_s) for n in range(channels)]
    return np.stack(columns, axis=1) + rng.normal(0, 0.02, (len(time_s), channels))


def encode(samples: np.ndarray, rate_hz: int, **form: str) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, samples, rate_hz, **form)
    return content.getvalue()


def encode_by_ffmpeg(samples: np.ndarray, rate_hz: int, container: str, codec: str, form: str) -> bytes:
    content = io.BytesIO()
    with av.open(content, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate_hz, layout="stereo" if samples.shape[1] == 2 else "mono")
        stream.codec_context.format = form
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples.T, dtype=np.float32), "fltp", stream.codec_context.layout.name
        )
        frame.sample_rate = rate_hz
        resampler = av.AudioResampler(form, stream.codec_context.layout, rate_hz)
        for piece in resampler.resample(frame):
            for packet in stream.encode(piece):
                file.mux(packet)
        for packet in stream.encode(None):
            file.mux(packet)
    return content.getvalue()


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def frame_of(*contents: bytes) -> pd.DataFrame:
    return pd.DataFrame({"audio": [base64_of(content) for content in contents]})


WAV = encode(made_speech(1.5, 16_000), 16_000, format="WAV", subtype="PCM_16")


FLAC = encode(made_speech(1.5, 16_000), 16_000, format="FLAC")


FORMS = {
    "wav 16 kHz mono": lambda: WAV,
    "wav 8 kHz 8 bit": lambda: encode(made_speech(2, 8_000), 8_000, format="WAV", subtype="PCM_U8"),
    "wav 44.1 kHz stereo 24 bit": lambda: encode(
        made_speech(2, 44_100, 2), 44_100, format="WAV", subtype="PCM_24"
    ),
    "wav a-law": lambda: encode(made_speech(2, 8_000), 8_000, format="WAV", subtype="ALAW"),
    "wav adpcm, by PyAV alone": lambda: encode_by_ffmpeg(
        made_speech(2, 22_050), 22_050, "wav", "adpcm_swf", "s16"
    ),
    "flac 48 kHz stereo": lambda: encode(made_speech(2, 48_000, 2), 48_000, format="FLAC"),
    "mp3 44.1 kHz stereo": lambda: encode(made_speech(2, 44_100, 2), 44_100, format="MP3"),
    "mp3 with an ID3 tag": lambda: encode_by_ffmpeg(made_speech(2, 44_100, 2), 44_100, "mp3", "mp3", "fltp"),
    "ogg vorbis": lambda: encode(made_speech(2, 22_050), 22_050, format="OGG", subtype="VORBIS"),
    "ogg opus": lambda: encode(made_speech(2, 48_000), 48_000, format="OGG", subtype="OPUS"),
}


BAD = {
    "not base64": ("%%% no base64 %%%", "not base64"),
    "beyond ascii": ("ünïcödé", "not base64"),
    "empty": ("", "found nothing"),
    "blank": ("  \n", "found nothing"),
    "text": (base64_of(b"To whom it may concern: this is a letter. " * 9), "not a WAV, FLAC, MP3 or OGG"),
    "a path": (base64_of(b"/etc/passwd"), "not a WAV, FLAC, MP3 or OGG"),
    "a path, bare": ("/etc/passwd", "not base64"),
    "an address": (base64_of(b"http://127.0.0.1/a.wav"), "not a WAV, FLAC, MP3 or OGG"),
    "cut wav": (base64_of(WAV[: len(WAV) // 2]), "ends after"),
    "cut flac": (base64_of(FLAC[: len(FLAC) // 2]), "FLAC file that cannot be decoded"),
    "wav header alone": (base64_of(WAV[:44]), "ends after"),
    "wav without samples": (base64_of(encode(np.zeros((0, 1)), 16_000, format="WAV")), "without samples"),
    "mp3 noise": (base64_of(b"\xff\xfb" + bytes(range(256)) * 4), "MP3 file"),
    "nan": (
        base64_of(encode(np.full((9_000, 1), np.nan), 16_000, format="WAV", subtype="FLOAT")),
        "NaN or infinite",
    ),
    "absurd rate": (base64_of(encode(np.zeros((9_000, 1)), 10, format="WAV")), "rate of 10 Hz"),
    "many channels": (base64_of(encode(np.zeros((9_000, 20)), 16_000, format="WAV")), "20 channels"),
}
