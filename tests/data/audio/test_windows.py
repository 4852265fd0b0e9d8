import numpy as np
import pytest

from sls.data.audio.windows import combine_scores, cut_windows, fit_length, window_starts


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
