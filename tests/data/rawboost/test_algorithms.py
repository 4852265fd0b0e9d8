"""Tests of `algorithms` and `filters`.

RawBoost stands against the original implementation, the direct form, and waveforms that break divisions.
"""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.rawboost_direct import direct_rawboost
from sls.config import RawBoostConfig
from sls.data.rawboost.algorithms import apply_rawboost, draw_impulses, white_noise

ALGORITHMS = range(9)
GOLDEN_PARAMS = (
    RawBoostConfig(),
    RawBoostConfig(minG=-3, maxG=6, nBands=3, N_f=3, SNRmin=5, SNRmax=12, P=25, g_sd=1),
)
GENERATORS = (np.random.default_rng, np.random.RandomState)
NUM_SAMPLES = 8_000


def speech_like(seed: int, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    """Returns harmonics under a slow envelope with some noise, peak 0.9, `(num_samples,)`, float32."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(num_samples) / 16_000
    waveform = sum(np.sin(2 * np.pi * 140 * k * time_s) / k for k in range(1, 20))
    waveform = waveform * np.sin(np.pi * 3 * time_s) ** 2 + 0.01 * rng.standard_normal(num_samples)
    return (0.9 * waveform / np.abs(waveform).max()).astype(np.float32)


def shaped_waveform(kind: str, num_samples: int, level: float) -> np.ndarray:
    rng = np.random.default_rng(num_samples)
    waveform = {
        "silence": np.zeros(num_samples),
        "constant": np.full(num_samples, level),
        "impulse": np.eye(1, num_samples, num_samples // 2)[0] * level,
        "noise": rng.standard_normal(num_samples) * level,
        "clipping": np.sign(rng.standard_normal(num_samples)) * level,
    }[kind]
    return waveform.astype(np.float32)


waveforms = st.builds(
    shaped_waveform,
    st.sampled_from(["silence", "constant", "impulse", "noise", "clipping"]),
    st.one_of(st.integers(1, 20), st.integers(21, 3000)),
    st.sampled_from([1e-38, 1e-6, 0.5, -1.0, 1.0, 4.0, 1e6, 1e30]),
)


@st.composite
def bounds(draw: st.DrawFn, values: list[float]) -> tuple[float, float]:
    low, high = sorted((draw(st.sampled_from(values)), draw(st.sampled_from(values))))
    return low, high


@st.composite
def configs(draw: st.DrawFn) -> RawBoostConfig:
    """Any algorithm with parameters up to the absurd."""
    decibels = [-1e6, -300, -20, 0, 30, 300, 1e6]
    pairs = {
        ("minF", "maxF"): [0, 1, 4000, 8000, 1e5],
        ("minBW", "maxBW"): [1e-3, 100, 1000, 8000, 1e5],
        ("minCoeff", "maxCoeff"): [1, 2, 10, 101, 257],
        ("minG", "maxG"): decibels,
        ("minBiasLinNonLin", "maxBiasLinNonLin"): decibels,
        ("SNRmin", "SNRmax"): decibels,
    }
    fields = {}
    for names, values in pairs.items():
        fields.update(zip(names, draw(bounds(values)), strict=True))
    fields |= {
        "algo": draw(st.sampled_from(ALGORITHMS)),
        "nBands": draw(st.sampled_from([1, 5, 20])),
        "N_f": draw(st.sampled_from([1, 2, 5, 9])),
        "P": draw(st.sampled_from([0, 10, 100])),
        "g_sd": draw(st.sampled_from([-3, 0, 2, 1e6])),
    }
    return RawBoostConfig(**fields)


def test_all_algorithms_equal_the_original_implementation(reference_dir: Path) -> None:
    golden = np.load(reference_dir / "golden" / "rawboost.npz")
    seen = set()
    for key in golden:
        match = re.fullmatch(r"algo(\d)_waveform(\d)_params(\d)_seed(\d+)", key)
        if match is None:
            continue
        algo, waveform, params, seed = (int(group) for group in match.groups())
        config = dataclasses.replace(GOLDEN_PARAMS[params], algo=algo)
        rng = np.random.RandomState(seed)
        found = apply_rawboost(golden[f"waveform_{waveform}"], config, rng)
        np.testing.assert_allclose(found, golden[key], rtol=0, atol=1e-6, err_msg=key)
        seen.add((algo, waveform, params))
    assert len(seen) == 9 * 2 * 2


def test_the_direct_form_equals_the_original_implementation(reference_dir: Path) -> None:
    golden = np.load(reference_dir / "golden" / "rawboost.npz")
    # 1e-8 is what another processor's sines and sums change: dividing by the largest gain of a filter enlarges it.
    for algo in ALGORITHMS:
        config, seed = dataclasses.replace(GOLDEN_PARAMS[1], algo=algo), 1000 * algo + 11
        found = direct_rawboost(golden["waveform_1"], config, np.random.RandomState(seed))
        expected = golden[f"algo{algo}_waveform1_params1_seed{seed}"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize(
    "params",
    [
        RawBoostConfig(),
        RawBoostConfig(minF=0, maxBW=9000),  # edges at both ends of the spectrum
        RawBoostConfig(minBW=16_000, maxBW=16_001, nBands=2),  # notches as wide as the spectrum
        RawBoostConfig(minCoeff=1, maxCoeff=2),  # single coefficients
        RawBoostConfig(nBands=12, maxCoeff=401, N_f=2),  # filters longer than the grid of their peak
        RawBoostConfig(minG=10, maxG=30, N_f=7, minBiasLinNonLin=-5, maxBiasLinNonLin=-1),  # clips
    ],
)
def test_all_algorithms_equal_the_direct_form(algo: int, params: RawBoostConfig) -> None:
    config = dataclasses.replace(params, algo=algo)
    waveform = speech_like(seed=algo)
    found = apply_rawboost(waveform, config, np.random.RandomState(algo))
    expected = direct_rawboost(waveform.astype(np.float64), config, np.random.RandomState(algo))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("num_samples", [2, 3, 10, 100, 501, 5001])
@pytest.mark.parametrize("algo", [1, 3, 4, 8])
def test_waveforms_shorter_than_the_filter_equal_the_direct_form(algo: int, num_samples: int) -> None:
    config = RawBoostConfig(algo=algo)
    waveform = speech_like(seed=1)[4000 : 4000 + num_samples]
    found = apply_rawboost(waveform, config, np.random.RandomState(2))
    expected = direct_rawboost(waveform.astype(np.float64), config, np.random.RandomState(2))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@settings(max_examples=100, deadline=None)
@given(waveforms, configs(), st.sampled_from(GENERATORS), st.sampled_from([4000, 8000, 16_000, 48_000]))
def test_any_waveform_stays_finite_float32_of_its_length(waveform, params, generator, sample_rate_hz) -> None:
    before = waveform.copy()
    boosted = apply_rawboost(waveform, params, generator(7), sample_rate_hz)
    assert boosted.dtype == np.float32
    assert boosted.shape == waveform.shape
    assert np.isfinite(boosted).all()
    np.testing.assert_array_equal(waveform, before)
    if params.algo in (1, 2, 5, 8) and np.abs(waveform).max() <= 1:
        assert np.abs(boosted).max() <= 1 + 1e-6


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_silence_stays_silent(algo: int) -> None:
    silence = np.zeros(1000, np.float32)
    assert not apply_rawboost(silence, RawBoostConfig(algo=algo), np.random.default_rng(0)).any()


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("algo", range(1, 9))
def test_the_generator_alone_decides(algo: int, generator) -> None:
    waveform, params = speech_like(seed=3), RawBoostConfig(algo=algo)
    first, again, other = (apply_rawboost(waveform, params, generator(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


@pytest.mark.parametrize("generator", GENERATORS)
def test_ssi_keeps_the_signal_to_noise_ratio_in_its_bounds(generator) -> None:
    waveform, rng = speech_like(seed=4), generator(0)
    for low, high in ((10, 40), (20, 20), (-6, -5)):
        boosted = apply_rawboost(waveform, RawBoostConfig(algo=3, SNRmin=low, SNRmax=high), rng)
        noise = boosted.astype(np.float64) - waveform
        snr_db = 20 * np.log10(np.linalg.norm(waveform) / np.linalg.norm(noise))
        assert low - 0.01 < snr_db < high + 0.01


@pytest.mark.parametrize("generator", GENERATORS)
def test_isd_disturbs_no_more_than_its_share_of_distinct_samples(generator) -> None:
    rng, shares = generator(0), []
    for _ in range(50):
        positions, factors = draw_impulses(RawBoostConfig(algo=2, P=20), NUM_SAMPLES, rng)
        assert len(np.unique(positions)) == len(positions) == len(factors)
        assert np.abs(factors).max() <= 1
        shares.append(len(positions) / NUM_SAMPLES)
    assert max(shares) <= 0.2
    assert 0.07 < np.mean(shares) < 0.13


def test_isd_of_a_generator_disturbs_all_stretches_alike() -> None:
    rng = np.random.default_rng(0)
    draws = (draw_impulses(RawBoostConfig(algo=2), NUM_SAMPLES, rng) for _ in range(100))
    positions = np.concatenate([positions for positions, _ in draws])
    counts, _ = np.histogram(positions, bins=20, range=(0, NUM_SAMPLES))
    assert stats.chisquare(counts).pvalue > 1e-4


def test_white_noise_of_a_generator_is_gaussian_and_white() -> None:
    noise = white_noise(1_000_001, np.random.default_rng(5))
    assert noise.dtype == np.float32
    assert len(noise) == 1_000_001
    assert stats.kstest(noise.astype(np.float64), "norm").pvalue > 1e-3
    assert abs(stats.kurtosis(noise)) < 0.02
    assert 4.5 < np.abs(noise).max() < 6.7
    power = np.abs(np.fft.rfft(noise[:-1])) ** 2 / (len(noise) - 1)
    np.testing.assert_allclose(power[1:].reshape(500, -1).mean(axis=1), 1, atol=0.16)


def test_white_noise_of_the_least_and_the_greatest_number_is_finite() -> None:
    class Extremes:
        def integers(self, *_: object, size: int, **__: object) -> np.ndarray:
            return np.resize(np.array([0, 2**64 - 1], dtype=np.uint64), size)

    noise = white_noise(8, Extremes())
    assert np.isfinite(noise).all()
    assert np.abs(noise).max() == pytest.approx(math.sqrt(2 * math.log(2**32)))


def test_a_waveform_that_is_not_one_row_of_finite_samples_raises() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"waveform: .*\(0,\)"):
        apply_rawboost(np.zeros(0, np.float32), RawBoostConfig(), rng)
    with pytest.raises(ValueError, match=r"waveform: .*\(2, 3\)"):
        apply_rawboost(np.zeros((2, 3), np.float32), RawBoostConfig(), rng)
    with pytest.raises(ValueError, match="waveform: .*NaN"):
        apply_rawboost(np.array([0, np.nan], np.float32), RawBoostConfig(), rng)


@pytest.mark.parametrize("algo", [-1, 9])
def test_an_unknown_algorithm_raises(algo: int) -> None:
    with pytest.raises(ValueError, match=f"algo: found {algo}, "):
        RawBoostConfig(algo=algo)
