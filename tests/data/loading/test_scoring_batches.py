import numpy as np
import pytest
import soundfile

from sls.config import AudioConfig
from sls.data.audio.recording import read_audio, read_recording
from sls.data.conditions.conditions import Condition, trial_generator
from sls.data.loading.dataset import TrialDataset
from sls.data.loading.loader import load_batches
from sls.data.loading.scoring_batches import ScoringBatches
from sls.data.tables.protocols import Trial


@pytest.fixture
def trials(tmp_path) -> TrialDataset:
    rng = np.random.default_rng(3)
    found = []
    for index, length in enumerate([500, 1000, 2600, 400, 1700]):
        path = tmp_path / f"t{index}.wav"
        soundfile.write(path, rng.normal(0, 0.1, length), 16_000, subtype="FLOAT")
        found.append(Trial(path.stem, path))
    (tmp_path / "t3.wav").write_bytes(b"no audio")
    return TrialDataset(found, AudioConfig(audio_max_len=1000))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_have_fixed_places_and_windows_in_the_order_of_trials(trials, num_workers: int) -> None:
    batches = ScoringBatches(trials, batch_size=2, window_hop=800)
    loaded = list(load_batches(batches, [1, 2], num_workers, max_failures=1))
    assert [batch.trials for batch in loaded] == [range(2, 4), range(4, 5)]
    assert loaded[0].window_counts.tolist() == [3, 0]
    assert loaded[0].windows.shape == (3, 1000)
    assert [failure.name for failure in loaded[0].failures] == ["t3"]
    assert "t3.wav: not readable" in loaded[0].failures[0].message
    waveform, _ = soundfile.read(trials.path(2), dtype="float32")
    np.testing.assert_array_equal(loaded[0].windows[2].numpy(), waveform[-1000:])


def test_the_resampler_reaches_the_workers(tmp_path) -> None:
    path = tmp_path / "t.wav"
    soundfile.write(path, np.random.default_rng(3).normal(0, 0.1, 3_000), 24_000, subtype="FLOAT")
    trials = TrialDataset([Trial("t", path)], AudioConfig(audio_max_len=1_000))
    batches = ScoringBatches(trials, batch_size=1, resampler="kaiser_best")
    (batch,) = load_batches(batches, [0], 1)
    expected = read_recording(path, resampler="kaiser_best").waveform[:1_000]
    np.testing.assert_array_equal(batch.windows[0].numpy(), expected)
    assert (expected != read_audio(path)[:1_000]).any()


def test_a_recording_that_is_not_there_is_named(trials) -> None:
    trials.path(0).unlink()
    (failure,) = ScoringBatches(trials, batch_size=2)[0].failures
    assert failure.message.startswith(f"{trials.path(0)}: ")


def test_a_condition_changes_a_recording_before_it_is_cut_whoever_reads_it_and_beside_what(tmp_path) -> None:
    rng = np.random.default_rng(3)
    found = []
    for index, length in enumerate([500, 2_600, 1_700]):
        path = tmp_path / f"t{index}.wav"
        soundfile.write(path, rng.normal(0, 0.1, length), 24_000, subtype="FLOAT")
        found.append(Trial(path.stem, path))
    trials = TrialDataset(found, AudioConfig(audio_max_len=1_000))
    noise = Condition("noisy", "white-noise", {"snr_db": 10.0})
    expected = [
        np.resize(noise.apply(read_audio(trial.path), trial_generator(0, "noisy", trial.name)), 1_000)
        for trial in found
    ]
    for batch_size, numbers, num_workers in ((3, [0], 0), (1, [2, 0, 1], 2), (2, [1, 0], 1)):
        batches = ScoringBatches(trials, batch_size, condition=noise)
        for batch in load_batches(batches, numbers, num_workers):
            for place, window in zip(batch.trials, batch.windows.numpy(), strict=True):
                np.testing.assert_array_equal(window, expected[place])
    assert (ScoringBatches(trials, 3)[0].windows.numpy() != np.stack(expected)).any()


@pytest.mark.parametrize(
    ("kind", "settings", "level"),
    [
        ("white-noise", {"snr_db": -100.0}, 1e36),
        ("speed", {"factor": 0.9}, 3.4e38),
        ("gain", {"gain": 3.0}, 0.1),
    ],
    ids=["too loud then", "too loud on the way", "an error of its kind"],
)
def test_a_condition_that_cannot_be_applied_is_a_failure_of_its_recording(
    tmp_path, kind: str, settings: dict[str, float], level: float
) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.full(1_000, level, np.float32), 16_000, subtype="FLOAT")
    trials = TrialDataset([Trial("loud", path)], AudioConfig(audio_max_len=1_000))
    batch = ScoringBatches(trials, 1, condition=Condition("mine", kind, settings))[0]
    assert [failure.name for failure in batch.failures] == ["loud"]
    # Which recording, and under which condition: neither tells the other.
    assert batch.failures[0].message.startswith(f"{path}: condition mine: ")
