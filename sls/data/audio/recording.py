"""One recording: from its file to mono float32 at one sampling rate."""

import io
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from sls.config import NUM_SAMPLES, SAMPLE_RATE_HZ, Resampler
from sls.data.audio.containers import AudioError, open_container
from sls.data.audio.decoders import (
    UNKNOWN,
    Decoded,
    audio_stream,
    check_format,
    decode,
    hold_to_length,
    one_line,
    try_decoders,
)
from sls.data.audio.resampling import resample
from sls.data.audio.warnings import UNFINISHED, warn_of_file, warn_of_waveform

MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
_NO_SAMPLES = "found no samples, expected a recording"


@dataclass(frozen=True)
class AudioFacts:
    """What is known of a recording."""

    sample_rate_hz: int
    duration_s: float | None
    """Seconds, or None where only all of its samples would tell."""
    warnings: str = ""
    """What makes a score less sure, separated by commas; all of it where all was decoded."""


@dataclass(frozen=True)
class Recording:
    """A recording as it was decoded, and as the countermeasure takes it."""

    waveform: np.ndarray
    """Mono, resampled, full scale at 1. Shape: `(num_samples,)`, float32."""
    sample_rate_hz: int
    """Of `waveform`."""
    decoded: Decoded

    @property
    def duration_s(self) -> float:
        """Seconds of the recording."""
        return len(self.decoded.samples) / self.decoded.rate_hz

    def file_warnings(self, num_heard: int) -> list[str]:
        """Returns what `warn_of_file` says where so many samples of the waveform are heard."""
        heard = self.decoded.samples[: max(1, num_heard * self.decoded.rate_hz // self.sample_rate_hz)]
        return warn_of_file(heard, self.duration_s, is_unfinished=self.decoded.is_unfinished)

    def warnings(self, num_heard: int) -> str:
        """Returns all warnings of the stretch that is heard, separated by commas."""
        heard = warn_of_waveform(self.waveform[:num_heard], self.sample_rate_hz)
        return ", ".join([*self.file_warnings(num_heard), *heard])


def read_recording(
    source: str | Path | bytes,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    name: str | None = None,
    resampler: Resampler = "soxr",
) -> Recording:
    """Reads a recording as `read_audio` does, and keeps what else is known; errors call it by `name`, or its path."""
    name = name or ("recording" if isinstance(source, bytes) else str(source))
    try:
        decoded = decode(source if isinstance(source, bytes) else _existing_path(source, name))
        return take_recording(decoded, sample_rate_hz, resampler)
    except AudioError as error:
        raise type(error)(f"{name}: {error}") from None


def take_recording(
    decoded: Decoded, sample_rate_hz: int = SAMPLE_RATE_HZ, resampler: Resampler = "soxr"
) -> Recording:
    """Returns a recording in mono, resampled; raises AudioError where it has no sample, or one that is not finite."""
    if len(decoded.samples) == 0:
        raise AudioError(_NO_SAMPLES)
    check_rate(decoded.rate_hz)
    mono = mix_down(decoded.samples)
    return Recording(resample(mono, decoded.rate_hz, sample_rate_hz, resampler), sample_rate_hz, decoded)


def check_rate(rate_hz: int) -> None:
    """Raises AudioError for a rate that no recording has: of a damaged header, it would be resampled without end."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise AudioError(f"found a rate of {rate_hz} Hz, expected {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")


def read_audio(source: str | Path | bytes, sample_rate_hz: int = SAMPLE_RATE_HZ) -> np.ndarray:
    """Reads a recording as float32 `(num_samples,)`: mono by mean over channels, at one rate, full scale at 1.

    A recording that neither decoder reads is an error, never silence.

    Raises:
        FileNotFoundError: there is no such file.
        AudioError: neither decoder reads it, or it is empty, cut short, or has samples that are not finite.
    """
    return read_recording(source, sample_rate_hz).waveform


def mix_down(samples: np.ndarray) -> np.ndarray:
    """Returns the mean of channels, `(num_samples, channels)`; raises AudioError where a sample is not finite."""
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    if not np.isfinite(mono).all():
        count = int(np.count_nonzero(~np.isfinite(mono)))
        raise AudioError(f"found {count} of {len(mono)} samples that are NaN or infinite")
    return mono


def inspect_audio(path: str | Path, *, is_decoded: bool = False) -> AudioFacts:
    """Finds sampling rate and duration of a recording, from its header or by decoding all of it.

    Warnings are then those of the first `NUM_SAMPLES` at `SAMPLE_RATE_HZ`, of which scores are made by default.

    Raises:
        FileNotFoundError: there is no such file.
        AudioError: neither decoder reads it; with `is_decoded`, all that `read_audio` raises.
    """
    if is_decoded:
        recording = read_recording(path)
        return AudioFacts(recording.decoded.rate_hz, recording.duration_s, recording.warnings(NUM_SAMPLES))
    name = str(path)
    try:
        path = _existing_path(path, name)
        restored = hold_to_length(path)
        content = path if restored is None else restored.content
        facts = try_decoders(_inspect_soundfile, _inspect_av, content)
        if facts.duration_s == 0:
            raise AudioError(_NO_SAMPLES)
        return replace(facts, warnings=UNFINISHED) if restored and restored.is_unfinished else facts
    except AudioError as error:
        raise type(error)(f"{name}: {error}") from None


def _existing_path(path: str | Path, name: str) -> str:
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116  pathlib takes five times as long
    except (FileNotFoundError, NotADirectoryError, ValueError):
        is_file = False
    except OSError as error:  # a folder that may not be entered, a file system that went away
        raise AudioError(one_line(error)) from None
    if not is_file:
        raise FileNotFoundError(f"{name}: no such file")
    return os.fspath(path)


def _inspect_soundfile(content: str | bytes) -> AudioFacts:
    info = soundfile.info(io.BytesIO(content) if isinstance(content, bytes) else content)
    check_format(info.format)
    return AudioFacts(info.samplerate, info.frames / info.samplerate if info.frames < UNKNOWN else None)


def _inspect_av(content: str | bytes) -> AudioFacts:
    with open_container(content) as container:
        stream = audio_stream(container)
        if not stream.codec_context.sample_rate:
            raise AudioError("no sampling rate")
        duration = stream.duration * stream.time_base if stream.duration and stream.time_base else None
        return AudioFacts(stream.codec_context.sample_rate, None if duration is None else float(duration))
