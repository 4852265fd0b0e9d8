"""One file to mono float32 at one sampling rate, and the stretch of it that the countermeasure hears."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import soundfile
import soxr

SAMPLE_RATE_HZ = 16_000
NUM_SAMPLES = 64_600
"""Samples that the countermeasure hears: 4.0375 s at 16 kHz."""
RESAMPLER = "HQ"
"""soxr's quality; librosa's default (`soxr_hq`), with which the published scores were made."""

AudioSource = str | Path | bytes | BinaryIO


class AudioError(ValueError):
    """A recording that cannot be used; the message names it and says why."""


def read_audio(
    source: AudioSource, sample_rate_hz: int = SAMPLE_RATE_HZ, name: str | None = None
) -> np.ndarray:
    """Reads a recording: mono by mean over channels, resampled by soxr HQ.

    soundfile is tried first, then PyAV, in process: some builds of libsndfile cannot read a third of the
    FLAC files of ASVspoof 2021. A recording that neither reads is an error, never silence.

    Args:
        source: a path, the content of a file, or a binary file.
        sample_rate_hz: the sampling rate to return, Hz.
        name: what errors call the recording; by default its path.

    Returns:
        The waveform in [-1, 1]. Shape: `(num_samples,)`, float32.

    Raises:
        FileNotFoundError: there is no such file.
        AudioError: neither decoder reads it, or it is empty, cut short, or has samples that are not finite.
    """
    if isinstance(source, (str, Path)):
        name = name or str(source)
        if not Path(source).is_file():
            raise FileNotFoundError(f"{name}: no such file")
        content: str | bytes = os.fspath(source)
    else:
        name = name or "recording"
        content = source if isinstance(source, bytes) else source.read()
    waveform, found_rate_hz = _decode(content, name)
    if len(waveform) == 0:
        raise AudioError(f"{name}: found no samples, expected a recording")
    if waveform.shape[1] > 1:
        waveform = waveform.mean(axis=1, keepdims=True)
    mono = waveform[:, 0]
    if not np.isfinite(mono).all():
        count = int(np.count_nonzero(~np.isfinite(mono)))
        raise AudioError(f"{name}: found {count} of {len(mono)} samples that are NaN or infinite")
    if found_rate_hz != sample_rate_hz:
        mono = soxr.resample(mono, found_rate_hz, sample_rate_hz, quality=RESAMPLER)
        if len(mono) == 0:
            raise AudioError(f"{name}: found no samples after resampling, expected a recording")
    return np.ascontiguousarray(mono, dtype=np.float32)


def fit_length(waveform: np.ndarray, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    """Repeats a short waveform and cuts a long one, as the published system does.

    Args:
        waveform: shape `(n,)`; repeated floor(num_samples / n) + 1 times where n < num_samples.
        num_samples: samples to return: the first ones.

    Returns:
        Shape: `(num_samples,)`.

    Raises:
        ValueError: the waveform is empty.
    """
    length = len(waveform)
    if length == 0:
        raise ValueError("waveform: found no samples, expected one at least")
    if length >= num_samples:
        return waveform[:num_samples]
    return np.tile(waveform, num_samples // length + 1)[:num_samples]


def crop_randomly(waveform: np.ndarray, num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Cuts a stretch at a random place out of a long waveform; a short one is returned as it is."""
    spare = len(waveform) - num_samples
    if spare <= 0:
        return waveform
    start = int(rng.integers(spare + 1))
    return waveform[start : start + num_samples]


def _decode(content: str | bytes, name: str) -> tuple[np.ndarray, int]:
    """Returns samples `(num_samples, channels)`, float32, and the sampling rate in Hz."""
    try:
        return _decode_soundfile(content)
    except (soundfile.SoundFileError, AudioError, MemoryError, ValueError) as error:
        soundfile_words = _one_line(error)
    try:
        return _decode_av(content)
    except (av.error.FFmpegError, AudioError, MemoryError, ValueError) as error:
        av_words = _one_line(error)
    raise AudioError(f"{name}: not readable: soundfile: {soundfile_words}; PyAV: {av_words}")


def _decode_soundfile(content: str | bytes) -> tuple[np.ndarray, int]:
    with soundfile.SoundFile(io.BytesIO(content) if isinstance(content, bytes) else content) as file:
        samples = file.read(dtype="float32", always_2d=True)
        if len(samples) < file.frames and file.format in _LOSSLESS:
            raise AudioError(f"ends after {len(samples)} of {file.frames} samples")
        return samples, file.samplerate


_LOSSLESS = ("FLAC", "WAV", "WAVEX")


def _decode_av(content: str | bytes) -> tuple[np.ndarray, int]:
    with av.open(io.BytesIO(content) if isinstance(content, bytes) else content, mode="r") as container:
        if not container.streams.audio:
            raise AudioError("no audio stream")
        stream = container.streams.audio[0]
        stream.codec_context.thread_count = 1  # workers are many, and files are short
        frames = [_frame_samples(frame) for frame in container.decode(stream)]
        if not frames:
            raise AudioError("no samples")
        samples = np.concatenate(frames)
        rate_hz = int(stream.codec_context.sample_rate)
        if container.format.name in ("flac", "wav") and stream.duration and stream.time_base:
            expected = round(stream.duration * stream.time_base * rate_hz)
            if len(samples) < expected:
                raise AudioError(f"ends after {len(samples)} of {expected} samples")
        return samples, rate_hz


def _frame_samples(frame: av.AudioFrame) -> np.ndarray:
    """Returns the samples of one frame as `(num_samples, channels)`, float32 in [-1, 1]."""
    samples: np.ndarray = frame.to_ndarray()
    num_channels = frame.layout.nb_channels
    samples = samples.T if frame.format.is_planar else samples.reshape(-1, num_channels)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if np.issubdtype(samples.dtype, np.integer):
        full_scale = 2 ** (8 * samples.dtype.itemsize - 1)
        return (samples / full_scale).astype(np.float32)
    return samples.astype(np.float32)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
