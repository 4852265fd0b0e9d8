"""The two decoders of recordings, and the order in which they are tried: all samples of a file, or an error."""

import io
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import av
import numpy as np
import soundfile
from av.audio.frame import format_dtypes
from av.container import InputContainer

from sls.data.audio.containers import AudioError, open_bytes, open_container
from sls.data.audio.extents import Restored, check_whole

UNKNOWN = 2**62
"""libsndfile's number of samples where a header does not tell."""
_FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "CAF", "AU", "NIST", "FLAC", "OGG", "MP3")
"""Those of libsndfile whose length is known to be held to: others may be cut short unseen."""

UNREADABLE = (
    soundfile.SoundFileError,
    av.error.FFmpegError,
    OSError,
    EOFError,
    MemoryError,
    TypeError,
    ValueError,
)
"""What the decoders raise where they do not read a recording."""

Limit = Callable[[int, int], int]
"""From the rate in Hz and the number of channels, the most samples of each channel; may raise AudioError."""

Result = TypeVar("Result")


class NotReadableError(AudioError):
    """A recording that neither decoder reads; the message quotes both."""


@dataclass(frozen=True)
class Decoded:
    """All samples of a recording."""

    samples: np.ndarray
    """In [-1, 1]. Shape: `(num_samples, channels)`, float32."""
    rate_hz: int
    is_unfinished: bool = False
    """Whether its header does not tell how many samples there are, and they were read to the end of the file."""


def decode(content: str | bytes, limit: Limit | None = None) -> Decoded:
    """Decodes a recording by libsndfile or FFmpeg; raises AudioError where it is not whole, or over the limit."""
    restored = hold_to_length(content)
    content = content if restored is None else restored.content
    samples, rate_hz = try_decoders(decode_by_soundfile, decode_by_av, content, limit)
    return Decoded(samples, rate_hz, restored is not None and restored.is_unfinished)


def hold_to_length(content: str | bytes) -> Restored | None:
    """Does what `check_whole` does, for a path or the content of a file; raises AudioError alone."""
    try:
        with open_bytes(content) as file:
            return check_whole(file)
    except (OSError, struct.error) as error:
        raise AudioError(one_line(error)) from None


def try_decoders(by_soundfile: Callable[..., Result], by_av: Callable[..., Result], *given: Any) -> Result:
    """Asks libsndfile for what is given, then FFmpeg.

    Some builds of libsndfile cannot read a third of the FLAC files of ASVspoof 2021.

    Raises:
        AudioError: of either, as it is, or NotReadableError where neither reads it.
    """
    words = []
    for decoder, ask in (("soundfile", by_soundfile), ("PyAV", by_av)):
        try:
            return ask(*given)
        except AudioError:
            raise
        except UNREADABLE as error:
            words.append(f"{decoder}: {one_line(error)}")
    raise NotReadableError(f"not readable: {'; '.join(words)}")


def one_line(error: BaseException) -> str:
    """Returns an error's words without line breaks, addresses in memory and long numbers of errors."""
    words = " ".join(str(error).split()) or type(error).__name__
    return re.sub(r" <_io\.BytesIO[^>]*>|\[Errno -?\d+\] ", "", words)


def decode_by_soundfile(content: str | bytes, limit: Limit | None = None) -> tuple[np.ndarray, int]:
    """Decodes with libsndfile, as `decode` says, to samples and their rate in Hz.

    Raises:
        AudioError: it has more samples than the limit, or fewer than its header says.
        UNREADABLE: libsndfile does not read it, or not to its end.
    """
    with soundfile.SoundFile(io.BytesIO(content) if isinstance(content, bytes) else content) as file:
        check_format(file.format)
        most = None if limit is None else limit(file.samplerate, file.channels)
        samples = file.read(-1 if most is None else most + 1, dtype="float32", always_2d=True)
        check_duration(len(samples), most, file.samplerate)
        if file.format == "FLAC" and len(samples) < file.frames < UNKNOWN:
            raise EOFError(_ends_after(len(samples), file.frames))
        return samples, file.samplerate


def decode_by_av(content: str | bytes, limit: Limit | None = None) -> tuple[np.ndarray, int]:
    """Decodes with FFmpeg, as `decode` says, to samples and their rate in Hz.

    Raises:
        AudioError: it has no audio, is cut short, or has more samples than the limit.
        UNREADABLE: FFmpeg does not read it, or finds it damaged.
    """
    with open_container(content) as container:
        stream = audio_stream(container)
        coder = stream.codec_context
        coder.thread_count = 1  # workers are many, and files are short
        coder.options = {"err_detect": "crccheck+explode"}
        most = None if limit is None else limit(coder.sample_rate, coder.channels)
        frames, num_samples = [], 0
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise AudioError(f"cut short or damaged behind {num_samples} samples")
            for frame in packet.decode():
                frames.append(_frame_samples(frame))
                num_samples += len(frames[-1])
                check_duration(num_samples, most, coder.sample_rate)
        rate_hz = int(coder.sample_rate)
        if container.format.name == "flac" and stream.duration and stream.time_base:
            expected = round(stream.duration * stream.time_base * rate_hz)
            if num_samples < expected:
                raise AudioError(_ends_after(num_samples, expected))
        return np.concatenate(frames) if frames else np.empty((0, 1), np.float32), rate_hz


def audio_stream(container: InputContainer) -> av.AudioStream:
    """Returns the first audio of a file; raises AudioError where there is none, or none that FFmpeg knows."""
    if not container.streams.audio:
        raise AudioError("no audio stream")
    stream = container.streams.audio[0]
    if stream.codec_context is None:  # what PyAV gives for a codec that FFmpeg does not know
        raise AudioError("no decoder for its audio")
    return stream


def check_format(name: str) -> None:
    """Raises AudioError for a format, by libsndfile's name of it, that no corpus of speech has."""
    if name not in _FORMATS:
        raise AudioError(f"found a recording in {name}, expected WAV, FLAC, OGG or MP3: convert it")


def check_duration(count: int, most: int | None, rate_hz: int) -> None:
    """Raises AudioError where there are more samples of each channel than `most`; None is any number."""
    if most is not None and count > most:
        longest_s = round(most / rate_hz, 2)
        raise AudioError(f"found a recording of more than {longest_s:g} s, expected at most that")


def _ends_after(found: int, said: int) -> str:
    return f"cut short: ends after {found} of {said} samples"


def _frame_samples(frame: av.AudioFrame) -> np.ndarray:
    """Returns the samples of one frame as `(num_samples, channels)`, float32 in [-1, 1].

    Its planes are counted by its channels: from eight on, PyAV finds some that are not there.
    """
    num_channels, dtype = frame.layout.nb_channels, np.dtype(format_dtypes[frame.format.name])
    if frame.format.is_planar:
        planes = frame.planes[:num_channels]
        channels = [np.frombuffer(memoryview(plane), dtype, frame.samples) for plane in planes]
        samples = np.stack(channels, axis=1)
    else:
        samples = np.frombuffer(memoryview(frame.planes[0]), dtype, frame.samples * num_channels)
        samples = samples.reshape(-1, num_channels)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if np.issubdtype(samples.dtype, np.integer):
        full_scale = 2 ** (8 * samples.dtype.itemsize - 1)
        return (samples / full_scale).astype(np.float32)
    return samples.astype(np.float32)
