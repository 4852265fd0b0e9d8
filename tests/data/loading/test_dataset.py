"""Tests of `dataset` and `training_batches`, by loading epochs."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sls.config import AudioConfig, RawBoostConfig
from sls.data.audio.recording import read_audio
from sls.data.audio.windows import fit_length
from sls.data.loading.dataset import UNKNOWN_LABEL, TrialDataset
from sls.data.loading.loader import load_batches
from sls.data.loading.training_batches import Batch, EpochBatches
from sls.data.rawboost.algorithms import apply_rawboost
from sls.data.tables.protocols import Trial

NUM_TRIALS = 23
AUDIO = AudioConfig(audio_max_len=4000)


@pytest.fixture(scope="module")
def trials(tmp_path_factory) -> list[Trial]:
    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    made = []
    for index in range(NUM_TRIALS):
        path = folder / f"T_{index:02d}.flac"
        soundfile.write(path, rng.uniform(-0.5, 0.5, 2000 + 300 * index), 16_000)
        made.append(Trial(path.stem, path, index % 2))
    return made


def load(
    trials: list[Trial],
    rawboost: RawBoostConfig | None = None,
    seed: int = 1234,
    *,
    audio: AudioConfig = AUDIO,
    num_workers: int = 0,
    start_batch: int = 0,
    pin_memory: bool = False,
    **options,
) -> list[Batch]:
    dataset = TrialDataset(trials, audio, rawboost, seed)
    batches = EpochBatches(dataset, **{"batch_size": 5, "shuffle": True, **options})
    numbers = range(start_batch, len(batches))
    return list(load_batches(batches, numbers, num_workers, pin_memory=pin_memory))


def assert_same(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.indices, other.indices)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.waveforms, other.waveforms)


def test_a_batch_holds_what_the_reader_gives(trials):
    batches = load(trials, shuffle=False)
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
    assert batches[0].waveforms.shape == (5, 4000)
    assert batches[0].waveforms.dtype == torch.float32
    for batch in batches:
        for waveform, label, index in zip(batch.waveforms, batch.labels, batch.indices, strict=True):
            trial = trials[index]
            np.testing.assert_array_equal(waveform, fit_length(read_audio(trial.path), 4000))
            assert label == trial.label


@pytest.mark.parametrize("num_workers", [1, 2, pytest.param(8, marks=pytest.mark.slow)])
def test_workers_change_nothing(trials, num_workers):
    options = {"audio": AudioConfig(audio_max_len=4000, random_crop=True), "epoch": 3}
    expected = load(trials, RawBoostConfig(algo=4), **options)
    assert_same(load(trials, RawBoostConfig(algo=4), num_workers=num_workers, **options), expected)


def test_what_came_before_changes_nothing(trials):
    expected = load(trials, RawBoostConfig(algo=3), epoch=1)
    assert_same(load(trials, RawBoostConfig(algo=3), epoch=1, start_batch=3), expected[3:])
    dataset = TrialDataset(trials, AUDIO, RawBoostConfig(algo=3), 1234)
    list(load_batches(EpochBatches(dataset, batch_size=5, epoch=0), range(5), 0))
    second = EpochBatches(dataset, batch_size=5, epoch=1, shuffle=True)
    assert_same(list(load_batches(second, range(5), 0)), expected)
    assert_same([second[3]], expected[3:4])


def test_order_and_augmentation_are_drawn_anew_in_each_epoch_and_for_each_seed(trials):
    orders, waveforms = set(), set()
    for seed, epoch in ((1, 0), (1, 1), (2, 0), (2, 1)):
        batches = load(trials, RawBoostConfig(algo=3), seed, epoch=epoch)
        orders.add(tuple(torch.cat([batch.indices for batch in batches]).tolist()))
        batches = load(trials, RawBoostConfig(algo=3), seed, epoch=epoch, shuffle=False)
        waveforms.add(batches[0].waveforms.numpy().tobytes())
    assert len(orders) == len(waveforms) == 4


def test_two_copies_of_a_recording_are_augmented_apart(trials):
    batch = load([trials[0], trials[0]], RawBoostConfig(algo=3), shuffle=False)[0]
    assert not torch.equal(batch.waveforms[0], batch.waveforms[1])


def test_rawboost_works_on_the_whole_recording_before_it_is_cut(trials):
    long_trial = [trials[-1]]
    params = RawBoostConfig(algo=5)
    batch = load(long_trial, params, seed=9, epoch=2)[0]
    rng = np.random.default_rng([2, 9, 2, 0])
    expected = fit_length(apply_rawboost(read_audio(long_trial[0].path), params, rng), 4000)
    np.testing.assert_array_equal(batch.waveforms[0], expected)


def test_algorithm_0_is_no_augmentation(trials):
    assert_same(load(trials, RawBoostConfig(algo=0)), load(trials, None))


def test_random_crops_are_stretches_of_the_recording(trials):
    audio = AudioConfig(audio_max_len=4000, random_crop=True)
    whole = torch.from_numpy(read_audio(trials[-1].path))
    starts = set()
    for epoch in range(5):
        crop = load([trials[-1]], audio=audio, epoch=epoch)[0].waveforms[0]
        matches = (whole.unfold(0, 4000, 1) == crop).all(dim=1).nonzero()
        assert len(matches) == 1
        starts.add(int(matches))
    assert len(starts) > 1


def test_every_trial_comes_once_and_the_last_part_may_be_dropped(trials):
    indices = torch.cat([batch.indices for batch in load(trials)])
    assert sorted(indices.tolist()) == list(range(NUM_TRIALS))
    assert [len(batch) for batch in load(trials, drop_last=True)] == [5, 5, 5, 5]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_the_ranks_one_after_another_have_the_batches_of_one(trials, world_size, drop_last):
    options = {"batch_size": 6, "drop_last": drop_last, "epoch": 2}
    expected = load(trials, RawBoostConfig(algo=3), **options)
    parts = [
        load(trials, RawBoostConfig(algo=3), rank=rank, world_size=world_size, **options)
        for rank in range(world_size)
    ]
    assert {len(part) for part in parts} == {len(expected)}
    assert all(len(batch) == 6 // world_size for part in parts for batch in part[:3])
    for whole, *shares in zip(expected, *parts, strict=True):
        assert torch.equal(torch.cat([share.indices for share in shares]), whole.indices)
        assert torch.equal(torch.cat([share.labels for share in shares]), whole.labels)
        assert torch.equal(torch.cat([share.waveforms for share in shares]), whole.waveforms)


def test_the_parts_of_a_last_batch_differ_by_one_at_most(trials):
    parts = [
        load(trials[:5], batch_size=4, rank=rank, world_size=2, shuffle=False, start_batch=start)
        for start in (0, 1)
        for rank in (0, 1)
    ]
    assert [[batch.indices.tolist() for batch in part] for part in parts] == [
        [[0, 1], []],
        [[2, 3], [4]],
        [[]],
        [[4]],
    ]
    assert parts[0][1].waveforms.shape == (0, 4000)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resume_reads_no_recording_of_the_batches_before(trials, tmp_path, num_workers):
    expected = load(trials, RawBoostConfig(algo=3), epoch=1)
    before = torch.cat([batch.indices for batch in expected[:2]]).tolist()
    gone = [
        Trial(trial.name, tmp_path / "gone.flac", trial.label) if index in before else trial
        for index, trial in enumerate(trials)
    ]
    options = {"epoch": 1, "start_batch": 2, "num_workers": num_workers}
    assert_same(load(gone, RawBoostConfig(algo=3), **options), expected[2:])


def test_a_trial_without_a_label_says_so(trials):
    batch = load([Trial("T", trials[0].path)])[0]
    assert batch.labels.tolist() == [UNKNOWN_LABEL]


def test_names_and_paths_come_back_as_they_were(tmp_path):
    made = [Trial("größe", tmp_path / "größe.wav"), Trial("b", tmp_path / "a b.wav")]
    dataset = TrialDataset(made, AUDIO)
    assert [dataset.name(index) for index in range(2)] == ["größe", "b"]
    assert [dataset.path(index) for index in range(2)] == [trial.path for trial in made]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_kept_labels_hold_no_open_files(trials):
    def count_open() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    dataset = TrialDataset(trials * 5, AudioConfig(audio_max_len=400))
    before = count_open()
    kept = []
    for batch in load_batches(EpochBatches(dataset, batch_size=1), range(len(dataset)), 1):
        kept.append((batch.labels, batch.indices))
        most = count_open()
    assert len(kept) == 5 * NUM_TRIALS
    assert most - before < 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: found 0"),
        ({"batch_size": 24, "drop_last": True}, r"batch_size: found 24, expected .*\b23\b"),
        ({"batch_size": 6, "rank": 2, "world_size": 2}, "rank: found 2, expected 0 to 1"),
        ({"world_size": 2}, r"batch_size: found 5, expected .*multiple of .*\b2\b"),
        ({"world_size": 0}, r"batch_size: found 5, expected .*multiple of .*\b0\b"),
        ({"epoch": -1}, "epoch: found -1"),
    ],
)
def test_numbers_out_of_range_are_refused(trials, options, message):
    with pytest.raises(ValueError, match=message):
        load(trials, **options)


def test_a_dataset_needs_trials_and_a_seed():
    with pytest.raises(ValueError, match="trials: found none"):
        TrialDataset([], AUDIO)
    with pytest.raises(ValueError, match="seed: found -1"):
        TrialDataset([Trial("a", Path("a"))], AUDIO, seed=-1)


@pytest.mark.parametrize("num_trials", [4, 11, 12, 13])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
def test_an_epoch_has_as_many_batches_as_it_says(num_trials, batch_size):
    dataset = TrialDataset([Trial("a", Path("a"))] * num_trials, AUDIO)
    for drop_last, ending in ((True, 0), (False, num_trials % batch_size)):
        batches = EpochBatches(dataset, batch_size=batch_size, drop_last=drop_last)
        sizes = [batch_size] * (num_trials // batch_size) + [ending] * (ending > 0)
        assert [len(batches.members(number)) for number in range(len(batches))] == sizes


def test_the_order_is_a_shuffle_of_all_and_not_of_neighbours():
    dataset = TrialDataset([Trial("a", Path("a"))] * 10_000, AUDIO)
    order = EpochBatches(dataset, batch_size=10_000, shuffle=True).members(0)
    assert sorted(order) == list(range(10_000))
    assert np.abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 0.05


@pytest.mark.gpu
def test_batches_are_pinned_for_a_gpu(trials):
    batch = load(trials, num_workers=2, pin_memory=True)[0]
    assert batch.waveforms.is_pinned()
    assert batch.to("cuda").waveforms.is_cuda
