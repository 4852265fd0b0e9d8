import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from sls.config import AudioConfig, ComputeConfig, ScoringConfig
from sls.data.audio.recording import AudioError
from sls.data.loading.dataset import TrialDataset
from sls.data.loading.scoring_batches import ScoringBatches
from sls.data.tables.protocols import Trial
from sls.engine.scoring.batch_size import LARGEST_BATCH_SIZE, largest_fitting
from sls.engine.scoring.loop import score, score_windows

CPU = torch.device("cpu")


class Loudness(nn.Module):
    """A stand-in whose score of a window is its first sample."""

    def __init__(self, largest_batch: int = 100) -> None:
        super().__init__()
        self.largest_batch = largest_batch
        self.batch_sizes: list[int] = []

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        if len(waveforms) > self.largest_batch:
            raise torch.OutOfMemoryError
        self.batch_sizes.append(len(waveforms))
        return torch.stack([torch.zeros_like(waveforms[:, 0]), waveforms[:, 0]], dim=1)


@pytest.fixture
def ramps(tmp_path) -> TrialDataset:
    """Recordings whose sample k is k / 10,000."""
    trials = []
    for index, length in enumerate([1000, 3000, 400, 2200, 1000]):
        path = tmp_path / f"t{index}.wav"
        soundfile.write(path, (np.arange(length) + index) / 10_000, 16_000, subtype="FLOAT")
        trials.append(Trial(path.stem, path))
    return TrialDataset(trials, AudioConfig(audio_max_len=1000))


def scores_of(ramps: TrialDataset, scoring: ScoringConfig, numbers: range, batch_size: int = 2) -> list:
    batches = ScoringBatches(ramps, batch_size, scoring.window_hop)
    compute = ComputeConfig(num_workers=0)
    scored = list(score(Loudness(batch_size), batches, numbers, compute, scoring, CPU))
    assert [batch.number for batch in scored] == list(numbers)
    return [value for batch in scored for value in batch.scores.tolist()]


def test_each_trial_gets_its_own_score(ramps) -> None:
    assert scores_of(ramps, ScoringConfig(), range(3)) == pytest.approx([0, 1e-4, 2e-4, 3e-4, 4e-4])


def test_recordings_beyond_the_limit_are_all_named(ramps, tmp_path) -> None:
    for name in ("t0.wav", "t1.wav"):
        (tmp_path / name).write_bytes(b"no audio")
    batches = ScoringBatches(ramps, 2, 0)
    for limit, message in (
        (0, r"2 recordings .* at most 0: t0, t1; the first: .*t0\.wav: not readable"),
        (1, r"2 recordings .* at most 1: t0, t1; the first: .*t0\.wav"),
    ):
        compute = ComputeConfig(num_workers=0, max_failures=limit)
        with pytest.raises(AudioError, match=message):
            list(score(Loudness(), batches, range(3), compute, ScoringConfig(), CPU))


def test_windows_of_long_recordings_are_combined_and_never_exceed_the_batch(ramps) -> None:
    # t1 has windows at 0, 500, 1000, 1500, 2000; t3 at 0, 500, 1000, 1200.
    lowest = scores_of(ramps, ScoringConfig(window_hop=500, window_combination="min"), range(3))
    assert lowest == pytest.approx([0, 1e-4, 2e-4, 3e-4, 4e-4])
    mean = scores_of(ramps, ScoringConfig(window_hop=500), range(3))
    assert mean == pytest.approx([0, 0.1 + 1e-4, 2e-4, 0.0675 + 3e-4, 4e-4])


def test_a_score_that_is_not_finite_names_its_trial(ramps, tmp_path) -> None:
    class Broken(Loudness):
        def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
            log_probs = super().forward(waveforms)
            log_probs[(waveforms[:, 0] * 10_000).round() == 3] = torch.nan
            return log_probs

    batches = ScoringBatches(ramps, 2)
    with pytest.raises(ValueError, match="trial t3: the score is not finite"):
        list(score(Broken(), batches, range(3), ComputeConfig(num_workers=0), ScoringConfig(), CPU))


def test_a_batch_that_does_not_fit_says_what_to_lower() -> None:
    with pytest.raises(
        ValueError, match="eval_batch_size: found 8, which does not fit into the memory of cpu"
    ):
        score_windows(Loudness(4), torch.zeros(8, 10), 8, ComputeConfig(), CPU)


def test_compiled_models_get_whole_batches_alone() -> None:
    """Another size would be compiled anew, at the end of every list."""
    windows = torch.arange(7.0)[:, None].expand(7, 10)
    for compute, sizes in ((ComputeConfig(compile=True), [4, 4]), (ComputeConfig(), [4, 3])):
        model = Loudness()
        assert score_windows(model, windows, 4, compute, CPU).tolist() == list(range(7))
        assert model.batch_sizes == sizes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_scores_that_a_gpu_hands_over_late_are_waited_for(ramps) -> None:
    class Slow(Loudness):
        def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
            busy = torch.ones(4096, 4096, device=waveforms.device)
            for _ in range(20):
                busy = busy @ busy * 0
            return super().forward(waveforms) + busy[0, 0]

    batches = ScoringBatches(ramps, 1)
    device = torch.device("cuda")
    found = score(Slow(), batches, range(5), ComputeConfig(num_workers=0), ScoringConfig(), device)
    assert [batch.scores.item() for batch in found] == pytest.approx([0, 1e-4, 2e-4, 3e-4, 4e-4])


@pytest.mark.parametrize(("capacity", "found"), [(1, 1), (5, 4), (64, 64), (10**6, LARGEST_BATCH_SIZE)])
def test_the_automatic_batch_is_the_greatest_power_of_two_that_fits(capacity: int, found: int) -> None:
    model = Loudness(capacity)
    assert largest_fitting(lambda size: model(torch.zeros(size, 10)), "cuda:0") == found


def test_a_gpu_too_small_for_one_utterance_is_named() -> None:
    model = Loudness(0)
    with pytest.raises(ValueError, match="not even one utterance fits into the memory of cuda:0"):
        largest_fitting(lambda size: model(torch.zeros(size, 10)), "cuda:0")
