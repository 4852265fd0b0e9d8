from pathlib import Path

import pytest
import torch

from sls.config import AudioConfig, ComputeConfig
from sls.data.loading.dataset import TrialDataset
from sls.data.tables.protocols import Trial
from sls.engine.compute.training_processes import open_accelerator
from sls.engine.training.state import (
    STATE_FILE,
    EpochTally,
    Progress,
    check_trials,
    generator_states,
    read_state,
    restore_generators,
    trial_digests,
    write_state,
)


def test_means_of_an_epoch_are_over_its_trials() -> None:
    tally = EpochTally(duration_s=4.0, wait_s=1.0, learning_rate=1e-6)
    tally.add(0.5, num_correct=3, num_trials=4)
    tally.add(2.0, num_correct=1, num_trials=1)
    for peak_gib in (1.0, 3.0, 2.0):
        tally.note_memory(peak_gib)
    assert tally.metrics() == {
        "train/loss": 0.8,
        "train/accuracy": 0.8,
        "train/lr": 1e-6,
        "train/utterances_per_second": 1.25,
        "train/data_wait_share": 0.25,
        "train/duration_s": 4.0,
        "train/peak_memory_gib": 3.0,
    }


def test_the_next_epoch_starts_with_nothing() -> None:
    progress = Progress(epoch=3, batch=7, is_averaged=True)
    progress.tally.add(0.5, num_correct=3, num_trials=4)
    progress.start_next_epoch()
    assert progress == Progress(epoch=4)
    assert (progress.batch, Progress().epoch, Progress().batch) == (0, 0, 0)


def test_a_state_comes_back_from_its_file(tmp_path: Path) -> None:
    progress = Progress(epoch=3, batch=7, is_averaged=True, is_ended=True)
    progress.tally.add(0.5, num_correct=3, num_trials=4)
    assert write_state(tmp_path, {"progress": progress.state_dict()}) == tmp_path / STATE_FILE
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]
    resumed = Progress()
    resumed.load_state_dict(read_state(tmp_path)["progress"])
    assert resumed == progress


def test_a_state_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    write_state(tmp_path, {"epoch": 1})
    with pytest.raises(TypeError, match="pickle"):
        write_state(tmp_path, {"epoch": (number for number in range(3))})
    assert read_state(tmp_path)["epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


@pytest.mark.parametrize("content", [{"format": "sls-training/0"}, {}, [1]], ids=str)
def test_another_file_is_no_state(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / STATE_FILE)
    with pytest.raises(ValueError, match=f"{STATE_FILE}: .*sls-training/1"):
        read_state(tmp_path)


def test_no_file_and_half_a_file_are_no_states(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=STATE_FILE):
        read_state(tmp_path)
    path = write_state(tmp_path, {"weights": torch.zeros(1_000)})
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match=f"{STATE_FILE}: not a whole") as caught:
        read_state(tmp_path)
    assert "\n" not in str(caught.value)


def test_generators_go_on_where_they_stood() -> None:
    accelerator = open_accelerator(ComputeConfig(device="cpu"))
    states = generator_states(accelerator)
    drawn = torch.rand(3)
    restore_generators(states, accelerator)
    assert torch.equal(torch.rand(3), drawn)
    with pytest.raises(ValueError, match="2 processes, .* 1"):
        restore_generators(states * 2, accelerator)


def test_a_training_goes_on_with_the_trials_that_it_began_with() -> None:
    def dataset(*labels: int) -> TrialDataset:
        return TrialDataset(
            [Trial(name, Path(name), label) for name, label in zip("ab", labels, strict=True)], AudioConfig()
        )

    train, held_out, other = dataset(1, 0), dataset(0, 1), dataset(0, 0)
    state = trial_digests(train, held_out)
    check_trials(state, trial_digests(dataset(1, 0), dataset(0, 1)))
    with pytest.raises(ValueError, match="the training trials"):
        check_trials(state, trial_digests(other, held_out))
    with pytest.raises(ValueError, match="the validation trials"):
        check_trials(state, trial_digests(train, other))
    assert trial_digests(train, None) == {"trials": train.digest()}
