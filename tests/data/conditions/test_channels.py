"""Tests of `channels`, codecs aside: bands by spectrum, level and clipping on the output, lost packets by count."""

import itertools

import numpy as np
import pytest

from sls.data.conditions.channels import change_gain, clip_peaks, limit_band, lose_packets


def gain_db(clean: np.ndarray, degraded: np.ndarray, low_hz: float, high_hz: float) -> float:
    """Returns how much of the power between two frequencies is left, in dB."""
    window = np.hanning(len(clean))
    frequencies = np.fft.rfftfreq(len(clean), 1 / 16_000)
    band = (frequencies >= low_hz) & (frequencies < high_hz)
    powers = [np.square(np.abs(np.fft.rfft(each * window)))[band].sum() for each in (clean, degraded)]
    return float(10 * np.log10(powers[1] / powers[0]))


@pytest.fixture(scope="module")
def white() -> np.ndarray:
    return np.random.default_rng(1).uniform(-0.5, 0.5, 64_000).astype(np.float32)


def test_the_telephone_band_holds_300_to_3400_hz(white: np.ndarray) -> None:
    heard = limit_band(white, rate_hz=8_000, low_hz=300, high_hz=3_400)
    assert abs(gain_db(white, heard, 400, 3_000)) < 0.5
    assert gain_db(white, heard, 20, 150) < -40
    assert gain_db(white, heard, 4_000, 8_000) < -40
    for corner_hz in (300, 3_400):
        assert gain_db(white, heard, corner_hz - 5, corner_hz + 5) == pytest.approx(-3, abs=1)


def test_a_lower_rate_leaves_what_lies_under_half_of_it(white: np.ndarray) -> None:
    heard = limit_band(white, rate_hz=8_000)
    assert abs(gain_db(white, heard, 10, 3_500)) < 0.1
    assert gain_db(white, heard, 4_050, 8_000) < -80


def test_a_band_without_bounds_is_the_recording(white: np.ndarray) -> None:
    assert np.array_equal(limit_band(white), white)


@pytest.mark.parametrize("decibels", [-20, 0, 3])
def test_gain_is_in_decibels(white: np.ndarray, decibels: float) -> None:
    changed = change_gain(white, gain_db=decibels)
    assert 20 * np.log10(changed.std() / white.std()) == pytest.approx(decibels, abs=1e-4)


def test_gain_clips_at_full_scale(white: np.ndarray) -> None:
    changed = change_gain(white, gain_db=20)
    assert np.abs(changed).max() == 1
    assert np.mean(np.abs(changed) == 1) == pytest.approx(np.mean(np.abs(white) >= 0.1), abs=1e-3)


@pytest.mark.parametrize("share", [0.001, 0.05, 0.5])
def test_the_share_of_samples_is_clipped_and_the_others_stay(speech: np.ndarray, share: float) -> None:
    padded = np.pad(speech, 5_000)  # zeros do not count
    clipped = clip_peaks(padded, share=share)
    level = np.abs(clipped).max()
    assert np.sum(np.abs(clipped) == level) / len(speech) == pytest.approx(share, abs=1e-3)
    assert np.array_equal(clipped[np.abs(clipped) < level], padded[np.abs(clipped) < level])


def lost_packets(share: float, packet_ms: float, burst: float) -> np.ndarray:
    ones = np.ones(16_000 * 400, np.float32)
    kept = lose_packets(ones, np.random.default_rng(5), share=share, packet_ms=packet_ms, burst=burst)
    packets = kept.reshape(-1, round(16 * packet_ms))
    assert set(np.unique(packets.mean(axis=1))) == {0, 1}  # whole packets
    return packets[:, 0] == 0


@pytest.mark.parametrize("packet_ms", [20, 10])
@pytest.mark.parametrize(("share", "burst", "expected"), [(0.2, 0, 1 / 0.8), (0.2, 1, 1), (0.1, 4, 4)])
def test_lost_packets_are_as_many_and_as_long_as_was_said(
    share: float, burst: float, expected: float, packet_ms: float
) -> None:
    lost = lost_packets(share, packet_ms, burst)
    assert lost.mean() == pytest.approx(share, rel=0.1)
    runs = [len(list(group)) for is_lost, group in itertools.groupby(lost) if is_lost]
    assert np.mean(runs) == pytest.approx(expected, rel=0.1)


def test_what_is_not_lost_stays(speech: np.ndarray) -> None:
    kept = lose_packets(speech, np.random.default_rng(1), share=0.5)
    assert np.array_equal(kept[kept != 0], speech[kept != 0])
    assert not lose_packets(speech, np.random.default_rng(1), share=1).any()
    assert np.array_equal(lose_packets(speech, np.random.default_rng(1), share=0), speech)
