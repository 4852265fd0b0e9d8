"""The two decoders of recordings, and the order in which they are tried: all samples of a file, or an error."""

import io
import re
from collections.abc import Callable
from typing import Any, TypeVar

import av
import numpy as np
import soundfile
from av.container import InputContainer

from sls.data.audio.containers import open_container

UNKNOWN = 2**62
"""libsndfile's number of samples where a header does not tell."""
_STREAMED_WAV_BYTES = 2**31 - 2**16  # sizes from here on are what writers to a pipe put for "not known"

UNREADABLE = (soundfile.SoundFileError, av.error.FFmpegError, OSError, MemoryError, TypeError, ValueError)
"""What the decoders raise where they do not read a recording."""

Limit = Callable[[int, int], int]
"""From the rate in Hz and the number of channels, the most samples of each channel; may raise AudioError."""

Result = TypeVar("Result")


class AudioError(ValueError):
    """A recording that cannot be used; the message says why."""


class CutShortError(AudioError):
    """A recording that ends before its end, which the other decoder would not notice."""


class NotReadableError(AudioError):
    """A recording that neither decoder reads; the message quotes both."""


def decode(
    content: str | bytes, limit: Limit | None = None, final: type[AudioError] = CutShortError
) -> tuple[np.ndarray, int]:
    """Decodes a recording, a path or the content of a file, by libsndfile or else by FFmpeg.

    Args:
        content: The recording.
        limit: What it may hold; None for anything.
        final: The errors of one decoder after which the other is not asked.

    Returns:
        The samples, shape `(num_samples, channels)`, float32 in [-1, 1]; and their rate in Hz.

    Raises:
        AudioError: it is cut short, over the limit, or neither decoder reads it.
    """
    return try_decoders(decode_by_soundfile, decode_by_av, content, limit, final=final)


def try_decoders(
    by_soundfile: Callable[..., Result],
    by_av: Callable[..., Result],
    *given: Any,
    final: type[AudioError] = CutShortError,
) -> Result:
    """Asks libsndfile for what is given, then FFmpeg.

    Some builds of libsndfile cannot read a third of the FLAC files of ASVspoof 2021.

    Raises:
        AudioError: of the class that is `final`, as it is, or NotReadableError where neither reads it.
    """
    words = []
    for decoder, ask in (("soundfile", by_soundfile), ("PyAV", by_av)):
        try:
            return ask(*given)
        except final:
            raise
        except UNREADABLE as error:
            words.append(f"{decoder}: {one_line(error)}")
    raise NotReadableError(f"not readable: {'; '.join(words)}")


def one_line(error: BaseException) -> str:
    """Returns an error's words without line breaks, addresses in memory and long numbers of errors."""
    words = " ".join(str(error).split()) or type(error).__name__
    return re.sub(r" <_io\.BytesIO[^>]*>|\[Errno -?\d+\] ", "", words)


def decode_by_soundfile(content: str | bytes, limit: Limit | None = None) -> tuple[np.ndarray, int]:
    """Decodes with libsndfile, as `decode` says.

    Raises:
        AudioError: it is cut short, or has more samples than the limit.
        UNREADABLE: libsndfile does not read it.
    """
    with soundfile.SoundFile(io.BytesIO(content) if isinstance(content, bytes) else content) as file:
        _check_wav_size(file)
        most = None if limit is None else limit(file.samplerate, file.channels)
        samples = file.read(-1 if most is None else most + 1, dtype="float32", always_2d=True)
        check_duration(len(samples), most, file.samplerate)
        if file.format == "FLAC" and len(samples) < file.frames < UNKNOWN:
            raise AudioError(f"ends after {len(samples)} of {file.frames} samples")
        return samples, file.samplerate


def decode_by_av(content: str | bytes, limit: Limit | None = None) -> tuple[np.ndarray, int]:
    """Decodes with FFmpeg, as `decode` says.

    Raises:
        AudioError: it has no audio, is cut short, or has more samples than the limit.
        UNREADABLE: FFmpeg does not read it.
    """
    with open_container(content) as container:
        stream = audio_stream(container)
        stream.codec_context.thread_count = 1  # workers are many, and files are short
        most = (
            None if limit is None else limit(stream.codec_context.sample_rate, stream.codec_context.channels)
        )
        frames, count = [], 0
        for frame in container.decode(stream):
            frames.append(_frame_samples(frame))
            count += len(frames[-1])
            check_duration(count, most, stream.codec_context.sample_rate)
        rate_hz = int(stream.codec_context.sample_rate)
        if container.format.name == "flac" and stream.duration and stream.time_base:
            expected = round(stream.duration * stream.time_base * rate_hz)
            if count < expected:
                raise AudioError(f"ends after {count} of {expected} samples")
        return np.concatenate(frames) if frames else np.empty((0, 1), np.float32), rate_hz


def audio_stream(container: InputContainer) -> av.AudioStream:
    """Returns the first audio of a file.

    Raises:
        AudioError: there is none, or FFmpeg does not know its codec.
    """
    if not container.streams.audio:
        raise AudioError("no audio stream")
    stream = container.streams.audio[0]
    if stream.codec_context is None:  # what PyAV gives for a codec that FFmpeg does not know
        raise AudioError("no decoder for its audio")
    return stream


def check_duration(count: int, most: int | None, rate_hz: int) -> None:
    """Raises AudioError where there are more samples of each channel than `most`; None is any number."""
    if most is not None and count > most:
        longest_s = round(most / rate_hz, 2)
        raise AudioError(f"found a recording of more than {longest_s:g} s, expected at most that")


def _check_wav_size(file: soundfile.SoundFile) -> None:
    """Raises CutShortError where a WAV file is shorter than its header says; both decoders hide it."""
    sizes = re.search(r"^data : (\d+) \(should be (\d+)\)$", file.extra_info, re.MULTILINE)
    if sizes is None or file.format not in ("WAV", "WAVEX"):
        return
    said, found = map(int, sizes.groups())
    if found < said < _STREAMED_WAV_BYTES:
        raise CutShortError(f"ends after {found} of {said} bytes of samples")


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
