"""What scores are bound to, so that no score file mixes two arithmetics."""

from pathlib import Path

import pytest
import torch

from sls.config import AudioConfig, ComputeConfig, ScoringConfig
from sls.data.tables.protocols import Trial
from sls.engine.scoring import loop
from sls.engine.scoring.job import bind
from sls.engine.scoring.partial_scores import JournalHeader, ScoreJournal

CPU = torch.device("cpu")
TRIALS = [Trial("t0", Path("t0.wav")), Trial("t1", Path("t1.wav"))]


def header(precision: str = "bf16", device: torch.device = CPU) -> JournalHeader:
    compute = ComputeConfig(device="cpu", precision=precision)
    return JournalHeader(bind(TRIALS, "c", "p", AudioConfig(), compute, ScoringConfig(), device), {})


def test_a_journal_of_packed_layers_is_not_continued_on_a_cpu_that_does_not_pack(
    tmp_path, monkeypatch
) -> None:
    path = tmp_path / "scores.txt.partial"
    monkeypatch.setattr(loop, "can_pack", lambda dtype: True)
    with ScoreJournal(path, header(), "") as journal:
        journal.append(0, ["t0"], [1.0])
    monkeypatch.setattr(loop, "can_pack", lambda dtype: dtype == torch.float32)
    with (
        pytest.raises(ValueError, match="linear_layers packed, expected linear_layers plain"),
        ScoreJournal(path, header(), ""),
    ):
        pytest.fail("the journal was opened")
    assert header("fp32").binding["linear_layers"] == "packed"


def test_a_gpu_packs_nothing(monkeypatch) -> None:
    monkeypatch.setattr(loop, "can_pack", lambda dtype: True)
    assert header(device=torch.device("cuda")).binding["linear_layers"] == "plain"


def test_compiled_layers_are_another_arithmetic_than_packed_ones(monkeypatch) -> None:
    monkeypatch.setattr(loop, "can_pack", lambda dtype: True)
    ways = [
        bind(TRIALS, "c", "p", AudioConfig(), compute, ScoringConfig(), CPU)["linear_layers"]
        for compute in (ComputeConfig(), ComputeConfig(compile=True))
    ]
    assert ways == ["packed", "compiled"]
