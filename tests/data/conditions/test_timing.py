"""Tests of `timing`: silence by construction, offsets by sample, speed by spectrum."""

import numpy as np
import pytest

from sls.data.conditions.timing import add_silence, begin_later, change_speed, keep_silence, trim_silence


@pytest.fixture
def between_silences(speech: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Speech between 0.3 s and 0.2 s of what lies 60 dB under it, and the places of its first and last sample."""
    faint = 5e-4 * np.random.default_rng(2).uniform(-1, 1, 8_000).astype(np.float32)
    return np.concatenate([faint[:4_800], speech, faint[4_800:]]), 4_800, 4_800 + len(speech)


def test_silence_is_trimmed_to_the_frame_and_only_at_the_ends(
    between_silences: tuple[np.ndarray, int, int],
) -> None:
    waveform, first, end = between_silences
    waveform[20_000:24_000] = 0  # a pause
    trimmed = trim_silence(waveform)
    assert np.array_equal(trimmed, waveform[first:end])


def test_the_threshold_is_under_the_loudest_frame(between_silences: tuple[np.ndarray, int, int]) -> None:
    waveform, first, end = between_silences
    for level in (0.01, 1, 100):
        assert len(trim_silence(level * waveform)) == end - first
    assert len(trim_silence(waveform, threshold_db=100)) == len(waveform)
    assert len(trim_silence(waveform, threshold_db=0)) == 160  # the loudest alone


def test_silence_alone_is_what_was_trimmed(between_silences: tuple[np.ndarray, int, int]) -> None:
    waveform, first, end = between_silences
    alone = keep_silence(waveform)
    assert np.array_equal(alone, np.concatenate([waveform[:first], waveform[end:]]))


@pytest.mark.parametrize("num_samples", [1, 159, 1_600, 32_000])
def test_of_a_recording_without_silence_nothing_is_heard_alone(speech: np.ndarray, num_samples: int) -> None:
    loud = np.sign(speech[:num_samples]) + np.float32(0.1)
    assert np.array_equal(keep_silence(loud), np.zeros(800))
    faint_end = np.append(loud, np.zeros(160, np.float32))
    assert 0 < len(keep_silence(faint_end)) <= 160


def test_of_nothing_but_zeros_nothing_is_trimmed() -> None:
    zeros = np.zeros(5_000, np.float32)
    assert len(trim_silence(zeros)) == 5_000
    assert not keep_silence(zeros).any()


def test_silence_is_added_before_and_behind(speech: np.ndarray) -> None:
    longer = add_silence(speech, leading_s=0.5, trailing_s=0.25)
    assert len(longer) == 8_000 + len(speech) + 4_000
    assert np.array_equal(longer[8_000:-4_000], speech)
    assert not longer[:8_000].any()
    assert not longer[-4_000:].any()


@pytest.mark.parametrize(("offset_s", "first"), [(0.5, 8_000), (2, 0), (2.5, 8_000)])
def test_an_offset_begins_later_and_turns_round(speech: np.ndarray, offset_s: float, first: int) -> None:
    assert np.array_equal(begin_later(speech, offset_s=offset_s), np.roll(speech, -first))


@pytest.mark.parametrize("factor", [0.9, 1.1, 2])
def test_speed_changes_length_and_pitch(factor: float) -> None:
    tone = np.sin(2 * np.pi * 1_000 * np.arange(48_000) / 16_000).astype(np.float32)
    played = change_speed(tone, factor=factor)
    assert len(played) == pytest.approx(48_000 / factor, abs=1)
    spectrum = np.abs(np.fft.rfft(played * np.hanning(len(played))))
    assert np.argmax(spectrum) * 16_000 / len(played) == pytest.approx(1_000 * factor, abs=1)
