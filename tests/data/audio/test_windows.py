"""Tests of `windows`: lengths that are fitted, crops, and windows whose scores become one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sls.config import NUM_SAMPLES
from sls.data.audio.windows import combine_scores, cut_windows, draw_crop_start, fit_length, window_starts


def fit_as_published(waveform: np.ndarray, max_len: int) -> np.ndarray:
    """The published system's padding, word for word."""
    x_len = waveform.shape[0]
    if x_len >= max_len:
        return waveform[:max_len]
    num_repeats = int(max_len / x_len) + 1
    return np.tile(waveform, (1, num_repeats))[:, :max_len][0]


@given(length=st.integers(1, 500), num_samples=st.integers(1, 400))
def test_length_is_fitted_as_the_published_system_does(length, num_samples):
    waveform = np.arange(length, dtype=np.float32)
    fitted = fit_length(waveform, num_samples)
    assert fitted.shape == (num_samples,)
    np.testing.assert_array_equal(fitted, fit_as_published(waveform, num_samples))


@pytest.mark.parametrize("length", [1, NUM_SAMPLES - 1, NUM_SAMPLES // 2, NUM_SAMPLES, NUM_SAMPLES + 1])
def test_the_default_length_is_that_of_the_published_system(length):
    waveform = np.random.default_rng(length).normal(size=length).astype(np.float32)
    np.testing.assert_array_equal(fit_length(waveform), fit_as_published(waveform, 64_600))


def test_nothing_cannot_be_repeated():
    with pytest.raises(ValueError, match="found no samples"):
        fit_length(np.zeros(0, dtype=np.float32))


def test_a_crop_is_a_stretch_and_every_place_occurs():
    waveform = np.arange(12)
    rng = np.random.default_rng(0)
    starts = set()
    for _ in range(200):
        crop = fit_length(waveform, 10, draw_crop_start(12, 10, rng))
        np.testing.assert_array_equal(crop, waveform[crop[0] : crop[0] + 10])
        starts.add(int(crop[0]))
    assert starts == {0, 1, 2}


def test_random_crop_of_a_short_recording_begins_at_a_random_sample() -> None:
    waveform = np.arange(20, dtype=np.float32)
    rng = np.random.default_rng(0)
    starts = set()
    for _ in range(200):
        turned = fit_length(waveform, 30, draw_crop_start(20, 30, rng))
        np.testing.assert_array_equal(turned, (turned[0] + np.arange(30)) % 20)
        starts.add(int(turned[0]))
    assert starts == set(range(20))


@pytest.mark.parametrize(
    ("num_samples", "hop", "starts"),
    [
        (100, 0, [0]),
        (5, 0, [0]),
        (10, 5, [0]),
        (9, 5, [0]),
        (20, 5, [0, 5, 10]),
        (22, 5, [0, 5, 10, 12]),
        (31, 20, [0, 20, 21]),
    ],
)
def test_windows_follow_by_hop_and_the_last_ends_with_the_recording(num_samples, hop, starts) -> None:
    assert window_starts(num_samples, 10, hop).tolist() == starts


@pytest.mark.parametrize("num_samples", [1, 9, 10, 11, 57])
@pytest.mark.parametrize("hop", [1, 3, 10])
def test_windows_are_the_samples_at_their_starts_and_leave_none_out(num_samples: int, hop: int) -> None:
    waveform = np.arange(num_samples, dtype=np.float32)
    windows = cut_windows(waveform, 10, hop)
    starts = window_starts(num_samples, 10, hop)
    assert windows.shape == (len(starts), 10)
    assert windows[:, 0].tolist() == starts.tolist()
    assert set(windows.ravel().tolist()) == set(waveform.tolist())


@pytest.mark.parametrize("num_samples", [3, 10, 25])
def test_without_a_hop_only_what_was_published_is_heard(num_samples: int) -> None:
    waveform = np.arange(num_samples, dtype=np.float32)
    np.testing.assert_array_equal(cut_windows(waveform, 10), fit_length(waveform, 10)[np.newaxis])


def test_scores_of_windows_become_one() -> None:
    scores = np.log(np.array([0.5, 0.25, 0.125, 0.125]))
    assert combine_scores(scores, "mean") == pytest.approx(scores.mean())
    assert combine_scores(scores, "median") == pytest.approx((np.log(0.25) + np.log(0.125)) / 2)
    assert combine_scores(scores, "min") == pytest.approx(np.log(0.125))
    assert combine_scores(scores, "log-mean") == pytest.approx(np.log(0.25))


@pytest.mark.parametrize("combination", ["mean", "median", "min", "log-mean"])
def test_one_window_keeps_its_score_to_the_last_bit(combination) -> None:
    score = np.float32(-0.1234567)
    assert np.float32(combine_scores(np.array([score]), combination)) == score


def test_very_low_scores_do_not_vanish() -> None:
    assert combine_scores(np.array([-2000.0, -2000.0]), "log-mean") == pytest.approx(-2000)


def test_no_window_is_refused() -> None:
    with pytest.raises(ValueError, match="scores: found no window"):
        combine_scores(np.array([]), "mean")
