"""Tests of `uploads` and of the tags in `containers`: the samples of `read_audio`, or one kind of error."""

import base64
import io

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sls.data.audio.containers import MAX_ID3_TAGS
from sls.data.audio.recording import AudioError, read_audio
from sls.data.audio.uploads import UploadLimits, decode_base64, read_upload

LIMITS = UploadLimits(max_bytes=1_000_000, max_duration_s=5)
RATE_HZ = 16_000


def encode(duration_s: float, rate_hz: int, channels: int, **form: str) -> bytes:
    rng = np.random.default_rng(7)
    content = io.BytesIO()
    samples = rng.uniform(-0.5, 0.5, (int(duration_s * rate_hz), channels))
    soundfile.write(content, samples, rate_hz, **form)
    return content.getvalue()


FLAC = encode(0.3, 22_050, 2, format="FLAC")
MP3 = encode(0.5, 44_100, 1, format="MP3")


@pytest.mark.parametrize(
    "content",
    [
        FLAC,
        MP3,
        encode(0.4, 8_000, 1, format="WAV", subtype="ULAW"),
        encode(0.4, 48_000, 3, format="WAV", subtype="FLOAT"),
        encode(0.4, 32_000, 2, format="RF64", subtype="PCM_16"),
        encode(0.4, 16_000, 1, format="OGG", subtype="VORBIS"),
    ],
)
def test_samples_are_those_of_read_audio(content: bytes) -> None:
    upload = read_upload(content, RATE_HZ, LIMITS)
    np.testing.assert_array_equal(upload.waveform, read_audio(content, RATE_HZ))
    assert upload.waveform.dtype == np.float32
    assert upload.duration_s == pytest.approx(len(upload.waveform) / RATE_HZ, abs=1e-3)


def test_flac_that_does_not_tell_its_length_is_read_to_its_end_and_no_further_than_the_limit() -> None:
    # Streaming encoders leave the 36 bits of the number of samples at 0.
    untold = bytearray(FLAC)
    untold[21] &= 0xF0
    untold[22:26] = bytes(4)
    expected = read_upload(FLAC, RATE_HZ, LIMITS).waveform
    np.testing.assert_array_equal(read_upload(bytes(untold), RATE_HZ, LIMITS).waveform, expected)
    with pytest.raises(AudioError, match="more than 0.1 s"):
        read_upload(bytes(untold), RATE_HZ, UploadLimits(max_duration_s=0.1))


def test_id3_tags_are_passed_over_with_whatever_they_hold() -> None:
    plain = read_upload(MP3, RATE_HZ, LIMITS).waveform
    tag = b"ID3\x04\x00\x00" + bytes([0, 0, 1, 2]) + b"\0" * (128 + 2)
    np.testing.assert_array_equal(read_upload(tag + tag + MP3, RATE_HZ, LIMITS).waveform, plain)
    for hollow in (tag, b"ID3", b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + MP3):
        with pytest.raises(AudioError, match="WAV, FLAC, MP3.*OGG"):
            read_upload(hollow, RATE_HZ, LIMITS)


EMPTY_TAG = b"ID3\x03\0\0\0\0\0\0"


def test_a_handful_of_id3_tags_is_passed_over_and_zeros_between_them_too() -> None:
    plain = read_upload(MP3, RATE_HZ, LIMITS).waveform
    content = (EMPTY_TAG + bytes(70_000)) * MAX_ID3_TAGS + MP3
    np.testing.assert_array_equal(read_upload(content, RATE_HZ, LIMITS).waveform, plain)


# More than that would take minutes if each of two million tags were cut off by a copy of the rest.
@pytest.mark.timeout(60)
def test_an_upload_of_id3_tags_alone_is_refused_in_one_sentence() -> None:
    content = EMPTY_TAG * (UploadLimits().max_bytes // len(EMPTY_TAG))
    with pytest.raises(AudioError, match=r"^found .*\b8 ID3 tags, expected"):
        read_upload(content, RATE_HZ, UploadLimits())
    with pytest.raises(AudioError, match=r"found .*\b8 ID3 tags"):
        read_audio(content)


@pytest.mark.parametrize(("limit", "is_taken"), [(0.3, True), (0.29, False)])
def test_limit_of_duration_holds_to_the_sample(limit: float, is_taken: bool) -> None:
    limits = UploadLimits(max_duration_s=limit)
    if is_taken:
        assert read_upload(FLAC, RATE_HZ, limits).duration_s == pytest.approx(0.3)
    else:
        with pytest.raises(AudioError, match="more than 0.29 s"):
            read_upload(FLAC, RATE_HZ, limits)


def test_limit_of_memory_holds_for_many_channels_at_a_high_rate() -> None:
    content = encode(0.5, 96_000, 8, format="FLAC")
    with pytest.raises(AudioError, match=r"found .*more than \d"):
        read_upload(content, RATE_HZ, UploadLimits(max_duration_s=1))


@given(
    st.sampled_from([FLAC, MP3, encode(0.1, 8_000, 1, format="WAV"), encode(0.1, 8_000, 1, format="OGG")]),
    st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), max_size=12),
    st.integers(0, 6_000),
)
@settings(max_examples=60, deadline=None)
def test_damaged_recording_gives_samples_or_an_error_of_one_kind(
    content: bytes, changes: list[tuple[int, int]], length: int
) -> None:
    damaged = bytearray(content[:length])
    for place, value in changes:
        if place < len(damaged):
            damaged[place] = value
    message = ""
    try:
        upload = read_upload(bytes(damaged), RATE_HZ, LIMITS)
        assert np.isfinite(upload.waveform).all()
        assert upload.duration_s <= LIMITS.max_duration_s
    except AudioError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 100


@given(st.binary(min_size=1, max_size=80), st.sampled_from([0, 4, 76]))
def test_base64_is_read_with_and_without_line_breaks(content: bytes, width: int) -> None:
    text = base64.b64encode(content).decode()
    if width:
        text = "\r\n".join(text[start : start + width] for start in range(0, len(text), width))
    assert decode_base64(text, 80) == content


@pytest.mark.parametrize("value", ["abc", "a===", "AAA\x00", "-_-_", "é" * 4])
def test_what_is_no_base64_is_refused(value: str) -> None:
    with pytest.raises(AudioError, match="^not base64$"):
        decode_base64(value, 100)


@pytest.mark.parametrize("value", [None, "", " ", 3, float("nan"), b"AAAA"])
def test_missing_value_is_refused(value: object) -> None:
    with pytest.raises(AudioError, match="found nothing"):
        decode_base64(value, 100)
