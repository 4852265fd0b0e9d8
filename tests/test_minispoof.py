"""The doors on real speech: a corpus of one's own by a tracks file alone, trained for a few epochs only.

How far a full training gets is in benchmarks/results/minispoof.md; here it is shortened to what a test can wait for.
"""

import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from entrypoints.evaluate import evaluate
from entrypoints.score import score
from entrypoints.train import train
from sls.config import PROJECT_ROOT
from sls.tracking.store import connect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CONFIG = PROJECT_ROOT / "configs" / "minispoof.yaml"
NUM_EPOCHS = 3


@pytest.fixture
def where(reference_dir: Path) -> list[str]:
    tracks = PROJECT_ROOT / "configs" / "minispoof.tracks.yaml"
    return ["--data_root", str(reference_dir / "minispoof"), "--tracks", str(tracks)]


def call(command, *arguments: str) -> None:
    result = CliRunner().invoke(command, list(arguments))
    assert result.exit_code == 0, result.output + result.stderr


def test_training_scoring_and_evaluation_on_real_speech(store, where) -> None:
    client = connect()
    call(train, "--config", str(CONFIG), "--num_epochs", str(NUM_EPOCHS), *where)
    (training,) = client.search_runs(["1"], "tags.kind = 'train'")
    losses = [metric.value for metric in client.get_metric_history(training.info.run_id, "train/loss")]
    assert len(losses) == NUM_EPOCHS
    # Below the loss of a countermeasure that says nothing, at which a saturated one stays.
    assert all(loss < math.log(2) - 0.05 for loss in losses)
    assert training.data.tags["corpus"] == "minispoof"
    assert 0 < training.data.metrics["val/eer_percent"] < 100
    call(score, "--model", f"runs:/{training.info.run_id}", "--track", "LA", *where)
    call(evaluate, "--track", "LA", "--num_resamples", "100", *where)
    (evaluation,) = client.search_runs(["1"], "tags.kind = 'evaluate'")
    assert evaluation.data.metrics["LA/num_bonafide"] + evaluation.data.metrics["LA/num_spoof"] == 620
    assert 0 < evaluation.data.metrics["LA/min_tdcf"] <= 1
    assert evaluation.data.tags["train_run_id"] == training.info.run_id


def test_baseline_of_the_corpus_has_the_error_rate_that_its_makers_state(store, where, reference_dir) -> None:
    scores = reference_dir / "minispoof" / "baseline_scores" / "lfcc_gmm.eval.txt"
    call(
        evaluate,
        "--track",
        "DF",
        "--scores",
        str(scores),
        "--subset",
        "all",
        "--num_resamples",
        "100",
        *where,
    )
    (evaluation,) = connect().search_runs(["1"], "tags.kind = 'evaluate'")
    assert evaluation.data.metrics["DF/eer_percent"] == pytest.approx(40.6, abs=0.05)
