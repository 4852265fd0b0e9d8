import pytest

from sls.engine.breakdown import BootstrapSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"level": 0}, "level: found 0"),
        ({"level": 1}, "level: found 1"),
        ({"num_resamples": 38}, "num_resamples: found 38, expected 0 for no intervals, or at least 39"),
        ({"num_resamples": -1}, "num_resamples: found -1"),
        ({"num_resamples": 198, "level": 0.99}, "at least 199 for those of 99 %"),
        ({"seed": -1}, "seed: found -1"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        BootstrapSettings(**values)


@pytest.mark.parametrize(
    "values",
    [{}, {"num_resamples": 0}, {"num_resamples": 39}, {"num_resamples": 199, "level": 0.99}, {"seed": 0}],
)
def test_settings_within_range_are_taken(values):
    assert BootstrapSettings(**values)


def test_many_pairs_get_the_resamples_that_they_need_and_no_fewer_than_were_asked_for():
    # Holm: the smallest of 28 p-values, 2 / (n + 1), times 28 is 0.05 for n = 1,119; a tenth may lack a class.
    assert BootstrapSettings(num_resamples=100).enough_for(28).num_resamples == 1_244
    for num_resamples in (0, 1_244, 5_000):
        settings = BootstrapSettings(num_resamples=num_resamples)
        assert settings.enough_for(28) == settings


def test_every_piece_of_work_has_draws_of_its_own():
    def first_draw(seed: int, *stream: str) -> int:
        return int(BootstrapSettings(seed=seed).generator(*stream).integers(2**62))

    draws = [first_draw(1, "trials", "eer"), first_draw(1, "clusters", "eer"), first_draw(2, "trials", "eer")]
    assert len(set(draws)) == 3
    assert first_draw(1, "trials", "eer") == draws[0]
