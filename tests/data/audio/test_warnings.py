"""Tests of `warnings`: what is heard is judged, whatever rate, channels and container it came in."""

import numpy as np
import pytest
import soundfile
from scipy.signal import butter, sosfiltfilt

from sls.data.audio.recording import inspect_audio, read_recording
from sls.data.audio.uploads import UploadLimits, read_upload
from sls.data.audio.warnings import count_warnings

NUM_HEARD = 32_000


def make_noise(rate_hz: int, duration_s: float = 3.0) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(duration_s * rate_hz))


def low_pass(noise: np.ndarray, rate_hz: int) -> np.ndarray:
    return sosfiltfilt(butter(12, 700, fs=rate_hz, output="sos"), noise)


def in_turn(*channels: np.ndarray) -> np.ndarray:
    return np.stack(channels, axis=1)


FAMILY = {
    "": lambda noise, _: noise,
    "short": lambda noise, rate_hz: noise[: rate_hz // 2],
    "silent": lambda noise, _: noise / 1000,
    "clipped": lambda noise, _: np.clip(20 * noise, -1, 1),
    "offset": lambda noise, _: noise + 0.1,
    "silent, offset": lambda noise, _: noise / 1000 + 0.1,
    "narrow": low_pass,
    "cancelled": lambda noise, _: in_turn(noise, 0.95 * -noise),
    "cancelled, silent": lambda noise, _: in_turn(noise, -noise),
}


@pytest.mark.parametrize("expected", FAMILY)
@pytest.mark.parametrize("container", ["wav", "flac", "aiff"])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_a_recording_has_the_warnings_of_what_is_heard(tmp_path, expected, container, rate_hz):
    path = tmp_path / f"a.{container}"
    soundfile.write(path, FAMILY[expected](make_noise(rate_hz), rate_hz), rate_hz)
    assert read_recording(path).warnings(NUM_HEARD) == expected
    assert inspect_audio(path, is_decoded=True).warnings == expected
    if container != "aiff":
        limits = UploadLimits()
        assert read_upload(path.read_bytes(), 16_000, limits).warnings(NUM_HEARD) == expected


def test_channels_that_agree_do_not_cancel_and_one_that_is_empty_does_not(tmp_path):
    noise, other = make_noise(16_000), make_noise(16_000)[::-1]
    for channels in ((noise, noise), (noise, other), (noise, 0 * noise), (0.5 * noise, -noise)):
        soundfile.write(tmp_path / "a.wav", in_turn(*channels), 16_000)
        assert read_recording(tmp_path / "a.wav").warnings(NUM_HEARD) == ""


def test_what_is_not_heard_is_not_judged(tmp_path):
    noise = make_noise(16_000)
    noise[NUM_HEARD:] = 1
    soundfile.write(
        tmp_path / "a.wav", in_turn(noise, np.where(np.arange(48_000) < NUM_HEARD, 1, -1) * noise), 16_000
    )
    recording = read_recording(tmp_path / "a.wav")
    assert recording.warnings(NUM_HEARD) == ""
    assert recording.warnings(len(recording.waveform)) == ""
    soundfile.write(tmp_path / "a.wav", noise, 16_000)
    assert read_recording(tmp_path / "a.wav").warnings(NUM_HEARD) == ""
    assert read_recording(tmp_path / "a.wav").warnings(48_000) == "clipped, offset"


def test_a_header_that_was_never_finished_is_said_at_each_depth(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, make_noise(16_000), 16_000)
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = bytes(4)
    path.write_bytes(content)
    assert inspect_audio(path).warnings == inspect_audio(path, is_decoded=True).warnings == "unfinished"
    assert read_recording(path).warnings(NUM_HEARD) == "unfinished"


def test_a_sung_vowel_is_not_narrow_and_a_tone_is(tmp_path):
    times = np.arange(NUM_HEARD) / 16_000
    harmonics = np.stack([np.sin(2 * np.pi * 120 * n * times) / n for n in range(1, 21)])
    for signal, expected in ((harmonics.sum(axis=0), ""), (harmonics[3], "narrow")):
        soundfile.write(tmp_path / "a.wav", 0.2 * signal, 16_000)
        assert read_recording(tmp_path / "a.wav").warnings(NUM_HEARD) == expected


def test_warnings_are_counted_by_their_names():
    assert count_warnings(["silent, narrow", "", "silent"]) == {"silent": 2, "narrow": 1}
