from dataclasses import replace
from pathlib import Path

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
from sls.engine.scoring.loop import ScoringJob, ScoringSummary, score, score_shard
from sls.engine.scoring.partial_scores import WHOLE, Shard, join_shards, partial_path
from tests.engine.scoring.loudness import Loudness

CPU = torch.device("cpu")


@pytest.fixture
def ramps(tmp_path) -> TrialDataset:
    """Recordings whose sample k is k / 10,000."""
    trials = []
    for index, length in enumerate([1000, 3000, 400, 2200, 1000]):
        path = tmp_path / f"t{index}.wav"
        soundfile.write(path, (np.arange(length) + index) / 10_000, 16_000, subtype="FLOAT")
        trials.append(Trial(path.stem, path))
    return TrialDataset(trials, AudioConfig(audio_max_len=1000))


def job_of(
    batches: ScoringBatches,
    model: nn.Module | None = None,
    *,
    scoring: ScoringConfig | None = None,
    max_failures: int = 0,
    device: torch.device = CPU,
) -> ScoringJob:
    compute = ComputeConfig(num_workers=0, max_failures=max_failures)
    return ScoringJob(
        model or Loudness(), batches, compute, scoring or ScoringConfig(), device, Path("scores.txt"), {}
    )


def scores_of(ramps: TrialDataset, scoring: ScoringConfig, numbers: range, batch_size: int = 2) -> list:
    batches = ScoringBatches(ramps, batch_size, scoring.window_hop)
    scored = list(score(job_of(batches, Loudness(batch_size), scoring=scoring), numbers))
    assert [batch.trials for batch in scored] == [batches.members(number) for number in numbers]
    return [value for batch in scored for value in batch.scores.tolist()]


def test_each_trial_gets_its_own_score(ramps) -> None:
    assert scores_of(ramps, ScoringConfig(), range(3)) == pytest.approx([0, 1e-4, 2e-4, 3e-4, 4e-4])


@pytest.mark.parametrize("window_hop", [0, 500])
def test_each_trial_has_the_warnings_of_its_recording(tmp_path, window_hop: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 20_000)
    signals = {"good": noise, "silent": noise / 1000, "opposite": np.stack([noise, -noise], axis=1)}
    signals["late"] = np.concatenate([noise[:16_000], np.ones(4_000)])
    for name, signal in signals.items():
        soundfile.write(tmp_path / f"{name}.wav", signal, 16_000)
    trials = [Trial(name, tmp_path / f"{name}.wav") for name in signals]
    dataset = TrialDataset(trials, AudioConfig(audio_max_len=16_000))
    expected = {"silent": "silent", "opposite": "cancelled, silent"}
    expected |= {"late": "clipped, offset"} if window_hop else {}
    for size in (1, 4):
        job = replace(
            job_of(ScoringBatches(dataset, size, window_hop), Loudness(size)), output=tmp_path / "s.txt"
        )
        summary = score_shard(job, WHOLE, is_anew=True)
        assert summary.warnings == expected
        assert ScoringSummary.total([summary, ScoringSummary()]).warnings == expected


def test_recordings_beyond_the_limit_are_all_named(ramps, tmp_path) -> None:
    for name in ("t0.wav", "t1.wav"):
        (tmp_path / name).write_bytes(b"no audio")
    batches = ScoringBatches(ramps, 2, 0)
    for limit, message in (
        (0, r"2 recordings .* \b0: t0, t1; .*t0\.wav: not readable"),
        (1, r"2 recordings .* \b1: t0, t1; .*t0\.wav"),
    ):
        with pytest.raises(AudioError, match=message):
            list(score(job_of(batches, max_failures=limit), range(3)))


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
    with pytest.raises(ValueError, match="trial t3: .*not finite"):
        list(score(job_of(batches, Broken()), range(3)))


@pytest.mark.gpu
def test_scores_that_a_gpu_hands_over_late_are_waited_for(ramps) -> None:
    class Slow(Loudness):
        def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
            busy = torch.ones(4096, 4096, device=waveforms.device)
            for _ in range(20):
                busy = busy @ busy * 0
            return super().forward(waveforms) + busy[0, 0]

    batches = ScoringBatches(ramps, 1)
    device = torch.device("cuda")
    found = score(job_of(batches, Slow(), device=device), range(5))
    assert [batch.scores.item() for batch in found] == pytest.approx([0, 1e-4, 2e-4, 3e-4, 4e-4])


MADE_WITH = {"checkpoint_sha256": "a", "resampler": "soxr", "num_trials": 5, "eval_batch_size": 2}


def score_to(ramps: TrialDataset, output: Path, made_with: dict | None = None, **options) -> tuple[int, int]:
    """Returns how many trials were scored, and how many were there."""
    job = replace(job_of(ScoringBatches(ramps, 2)), output=output, made_with=made_with or MADE_WITH)
    summary = score_shard(job, options.pop("shard", WHOLE), **options)
    return summary.num_trials, summary.num_kept


def test_scores_are_continued_batch_by_batch_and_come_out_alike_however_they_were_cut(
    ramps, tmp_path
) -> None:
    counts: list[int] = []
    assert score_to(ramps, tmp_path / "whole.txt", on_batch=counts.append) == (5, 0)
    assert counts == [0, 2, 2, 1]
    expected = join_shards(tmp_path / "whole.txt", [WHOLE])
    output = tmp_path / "cut.txt"
    assert score_to(ramps, output, shard=Shard(2, 2)) == (3, 0)
    path = partial_path(output, Shard(2, 2))
    path.write_bytes(path.read_bytes()[:-3])
    assert score_to(ramps, output, shard=Shard(2, 2)) == (1, 2)
    assert score_to(ramps, output, shard=Shard(1, 2)) == (2, 0)
    assert join_shards(output, [Shard(1, 2), Shard(2, 2)]) == expected
    assert score_to(ramps, output, shard=Shard(1, 2)) == (0, 2)
    assert score_to(ramps, output, shard=Shard(1, 2), is_anew=True) == (2, 0)
    assert join_shards(output, [Shard(1, 2), Shard(2, 2)]) == expected


def test_scores_of_something_else_are_not_continued(ramps, tmp_path) -> None:
    output = tmp_path / "df.txt"
    score_to(ramps, output)
    content = partial_path(output).read_bytes()
    with pytest.raises(ValueError, match=r"partial: found .*checkpoint_sha256 a, expected .* b"):
        score_to(ramps, output, {**MADE_WITH, "checkpoint_sha256": "b"})
    assert partial_path(output).read_bytes() == content


def test_scores_by_another_resampler_are_refused(ramps, tmp_path) -> None:
    output = tmp_path / "df.txt"
    score_to(ramps, output)
    with pytest.raises(ValueError, match="found .*resampler soxr, expected .*kaiser_best"):
        score_to(ramps, output, {**MADE_WITH, "resampler": "kaiser_best"})
    assert score_to(ramps, output) == (0, 5)


def test_a_list_that_names_a_trial_twice_is_not_scored(ramps, tmp_path) -> None:
    trials = [Trial("t0", tmp_path / "t0.wav")] * 2
    with pytest.raises(ValueError, match="found trial 't0' twice"):
        score_to(TrialDataset(trials, AudioConfig(audio_max_len=1000)), tmp_path / "df.txt")
