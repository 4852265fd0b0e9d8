"""Tests of `windows`: lengths that are fitted, and crops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sls.config import NUM_SAMPLES
from sls.data.audio.windows import crop_randomly, fit_length


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
        crop = crop_randomly(waveform, 10, rng)
        np.testing.assert_array_equal(crop, waveform[crop[0] : crop[0] + 10])
        starts.add(int(crop[0]))
    assert starts == {0, 1, 2}


def test_random_crop_of_a_short_recording_begins_at_a_random_sample() -> None:
    waveform = np.arange(20, dtype=np.float32)
    rng = np.random.default_rng(0)
    starts = set()
    for _ in range(200):
        turned = crop_randomly(waveform, 30, rng)
        np.testing.assert_array_equal(np.roll(turned, int(turned[0])), waveform)
        starts.add(int(turned[0]))
    assert starts == set(range(20))
