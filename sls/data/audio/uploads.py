"""Recordings that strangers send: decoded from their bytes alone, and within limits.

From bytes to samples they go the way of `read_audio`, so that a score cannot depend on who reads the file. Here they
are held to a duration, of four formats known by their first bytes, and no error quotes anything of the content.
"""

import base64
import io
import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from sls.data.audio.containers import HEAD_BYTES, AudioError, count_tag_bytes, name_container
from sls.data.audio.decoders import Decoded, NotReadableError, check_duration, decode
from sls.data.audio.recording import Recording, check_rate, take_recording

MAX_CHANNELS = 8
_SAMPLES_PER_S = 2 * 48_000
"""Samples of all channels for each second of the longest recording; bounds the memory of decoding."""

BYTES_PER_SAMPLE = 4
"""Of a list of numbers, once it is an array."""
MAX_PEAK = 8.0
"""Full scale is 1; decoders overshoot it a little, and 16-bit integers by thousands."""

_TAKEN = ("wav", "flac", "mp3", "ogg")


@dataclass(frozen=True)
class UploadLimits:
    """What is taken; the defaults are safe on a machine with little memory."""

    max_bytes: int = 20 * 2**20
    """Bytes of a file."""
    max_duration_s: float = 300.0
    """Seconds of a recording."""


def decode_base64(value: Any, max_bytes: int) -> bytes:
    """Returns the bytes of base64, broken into lines or not; raises AudioError, which quotes nothing of it."""
    if not isinstance(value, str) or not value.strip():
        raise AudioError("found nothing, expected a recording as base64")
    text = "".join(value.split())
    num_bytes = len(text) * 3 // 4
    if num_bytes > max_bytes + 2:
        raise AudioError(f"found about {num_bytes} bytes, expected at most {max_bytes}")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise AudioError("not base64") from None


def read_upload(content: bytes, sample_rate_hz: int, limits: UploadLimits) -> Recording:
    """Decodes a WAV, FLAC, MP3 or OGG file, mono by mean over channels, as `read_audio` does, resampled by soxr.

    Raises:
        AudioError: anything else; the message quotes nothing of the content.
    """
    if not content:
        raise AudioError("found no bytes, expected a recording")
    if len(content) > limits.max_bytes:
        raise AudioError(f"found {len(content)} bytes, expected at most {limits.max_bytes}")
    try:
        # Without ID3 tags the first bytes tell the format.
        content = content[count_tag_bytes(io.BytesIO(content)) :]
    except ValueError as error:
        raise AudioError(str(error)) from None
    container = name_container(content[:HEAD_BYTES])
    if container not in _TAKEN:
        raise AudioError("not a WAV, FLAC, MP3 or OGG file")
    try:
        decoded = decode(content, partial(_most_frames, limits))
    except NotReadableError:
        raise AudioError(f"found a {container.upper()} file that cannot be decoded") from None
    if len(decoded.samples) == 0:
        raise AudioError(f"found a {container.upper()} file without samples, expected a recording")
    return _take(decoded, sample_rate_hz)


def read_samples(values: Any, rate_hz: Any, sample_rate_hz: int, limits: UploadLimits) -> Recording:
    """Takes one channel of samples as a list of numbers, 1 at full scale, of a whole rate in Hz.

    Of the limits, `max_bytes` counts four bytes for each number.

    Raises:
        AudioError: anything else; the message quotes nothing of the list but its peak.
    """
    is_list = isinstance(values, (list, tuple, np.ndarray))
    if not is_list or len(values) == 0:
        raise AudioError("found no samples, expected a list of numbers")
    if len(values) * BYTES_PER_SAMPLE > limits.max_bytes:
        most = limits.max_bytes // BYTES_PER_SAMPLE
        raise AudioError(f"found {len(values)} samples, expected at most {most}")
    rate = _whole_rate(rate_hz)
    check_duration(len(values), _most_frames(limits, rate, 1), rate)
    try:
        samples = np.asarray(values)
    except ValueError:
        raise AudioError("found lists of several lengths, expected a list of numbers") from None
    if samples.ndim != 1 or samples.dtype.kind not in "iuf":
        raise AudioError("found something else than numbers, expected a list of numbers")
    peak = float(np.abs(samples.astype(np.float64)).max())
    if np.isfinite(peak) and peak > MAX_PEAK:
        raise AudioError(f"found a peak of {peak:g}, expected samples with full scale at 1")
    return _take(Decoded(samples.astype(np.float32)[:, None], rate), sample_rate_hz)


def _whole_rate(rate_hz: Any) -> int:
    is_number = isinstance(rate_hz, (int, float, np.number)) and not isinstance(rate_hz, bool)
    if not is_number or not math.isfinite(rate_hz) or rate_hz != int(rate_hz):
        raise AudioError("found no sample_rate_hz beside the samples, expected a whole number of Hz")
    return int(rate_hz)


def _take(decoded: Decoded, sample_rate_hz: int) -> Recording:
    if not np.isfinite(decoded.samples).all():  # whose number would tell of the content
        raise AudioError("found samples that are NaN or infinite")
    return take_recording(decoded, sample_rate_hz)


def _most_frames(limits: UploadLimits, rate_hz: int, channels: int) -> int:
    check_rate(rate_hz)
    if not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(f"found {channels} channels, expected 1 to {MAX_CHANNELS}")
    return int(limits.max_duration_s * min(rate_hz, _SAMPLES_PER_S / channels))
