"""Tests of `surroundings`: signal-to-noise ratios, spectra, decay and alignment, measured on the output."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sls.data.audio.recording import read_audio
from sls.data.conditions.settings import Degradation
from sls.data.conditions.surroundings import (
    add_pink_noise,
    add_recorded_noise,
    add_white_noise,
    reverberate,
    reverberate_by_recording,
)


def generator(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def energy(samples: np.ndarray) -> float:
    return float(np.square(samples, dtype=np.float64).sum())


@pytest.mark.parametrize("snr_db", [-10, 0, 25])
@pytest.mark.parametrize("kind", ["white", "pink", "recorded"])
def test_noise_has_the_ratio_that_was_said(
    speech: np.ndarray, recordings: Path, kind: str, snr_db: float
) -> None:
    noisy = {
        "white": lambda: add_white_noise(speech, generator(), snr_db=snr_db),
        "pink": lambda: add_pink_noise(speech, generator(), snr_db=snr_db),
        "recorded": lambda: add_recorded_noise(speech, generator(), folder=str(recordings), snr_db=snr_db),
    }[kind]()
    assert 10 * np.log10(energy(speech) / energy(noisy - speech)) == pytest.approx(snr_db, abs=0.01)


@pytest.mark.parametrize(("add", "slope_db"), [(add_white_noise, 3), (add_pink_noise, 0)])
def test_noise_has_its_colour(add: Degradation, slope_db: float) -> None:
    tone = np.sin(np.arange(160_000) / 3).astype(np.float32)
    noise = add(tone, generator(), snr_db=0) - tone
    powers, frequencies = np.square(np.abs(np.fft.rfft(noise))), np.fft.rfftfreq(len(noise), 1 / 16_000)
    edges = 125 * 2.0 ** np.arange(7)
    octaves = [
        powers[(frequencies >= low) & (frequencies < 2 * low)].sum() for low in edges if 2 * low <= 8_000
    ]
    assert np.diff(10 * np.log10(octaves)) == pytest.approx(slope_db, abs=1)


def test_recorded_noise_is_a_stretch_of_a_recording(speech: np.ndarray, recordings: Path) -> None:
    found, starts = set(), set()
    for seed in range(12):
        noise = add_recorded_noise(speech, generator(seed), folder=str(recordings), snr_db=0) - speech
        for path in sorted(recordings.iterdir()):
            recorded = read_audio(path)
            repeated = np.tile(recorded, 2 + len(speech) // len(recorded))
            size = 2 * len(repeated)
            correlation = np.fft.irfft(np.fft.rfft(repeated, size) * np.fft.rfft(noise, size).conj(), size)
            start = int(np.argmax(correlation[: len(recorded)]))
            if np.corrcoef(repeated[start : start + len(noise)], noise)[0, 1] > 0.999:
                found.add(path.name)
                starts.add(start)
    assert found == {"long.wav", "short.wav"}
    assert len(starts) > 6


def test_a_silent_recording_stays_silent_whatever_is_added(recordings: Path) -> None:
    silent = np.zeros(1_600, np.float32)
    assert not add_white_noise(silent, generator(), snr_db=0).any()
    assert not add_recorded_noise(silent, generator(), folder=str(recordings), snr_db=0).any()
    assert not reverberate(silent, generator(), rt60_s=0.5).any()


def test_a_noise_of_nothing_but_silence_is_an_error(tmp_path: Path, speech: np.ndarray) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(1_000), 16_000)
    with pytest.raises(ValueError, match="silent.wav"):
        add_recorded_noise(speech, generator(), folder=str(tmp_path), snr_db=0)


@pytest.mark.parametrize("rt60_s", [0.2, 0.8])
@pytest.mark.parametrize("direct_db", [-6, 3])
def test_echoes_decay_by_60_db_in_the_time_and_are_as_loud_as_was_said(
    rt60_s: float, direct_db: float
) -> None:
    impulse = np.zeros(32_000, np.float32)
    impulse[1_000] = 1
    heard = reverberate(impulse, generator(), rt60_s=rt60_s, direct_db=direct_db)
    assert np.argmax(np.abs(heard)) == 1_000
    assert np.abs(heard[:1_000]).max() < 1e-9
    assert 10 * np.log10(heard[1_000] ** 2 / energy(heard[1_001:])) == pytest.approx(direct_db, abs=0.01)
    left_db = 10 * np.log10(np.cumsum(heard[:1_000:-1] ** 2)[::-1] / energy(heard[1_001:]) + 1e-30)
    fitted = np.flatnonzero((left_db < -5) & (left_db > -25))
    slope_db = np.polyfit(fitted / 16_000, left_db[fitted], 1)[0]
    assert -60 / slope_db == pytest.approx(rt60_s, rel=0.1)


def test_a_recorded_room_leaves_the_direct_sound_where_it_was(tmp_path: Path, speech: np.ndarray) -> None:
    response = np.zeros(2_000)
    response[[300, 700]] = -0.8, 0.4  # the way to the microphone, and one echo
    soundfile.write(tmp_path / "room.wav", response, 16_000, subtype="FLOAT")
    heard = reverberate_by_recording(speech, generator(), folder=str(tmp_path))
    expected = -0.8 * speech
    expected[400:] += 0.4 * speech[:-400]
    expected *= np.sqrt(energy(speech) / energy(expected))
    assert heard == pytest.approx(expected, abs=1e-6)
    assert energy(heard) == pytest.approx(energy(speech))
