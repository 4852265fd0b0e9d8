"""The doors on real speech: a corpus of one's own by a tracks file alone, trained for a few epochs only.

How far a full training gets is in benchmarks/results/minispoof.md; here it is shortened to what a test can wait for.
"""

import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from entrypoints.evaluate import evaluate
from entrypoints.main import RECIPES, main
from sls.config import PROJECT_ROOT
from sls.config_file import read_config_values
from sls.tracking.store import connect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CONFIG = PROJECT_ROOT / "configs" / "minispoof.yaml"
NUM_EPOCHS = 2


@pytest.fixture
def where(reference_dir: Path) -> list[str]:
    tracks = PROJECT_ROOT / "configs" / "minispoof.tracks.yaml"
    return ["--data_root", str(reference_dir / "minispoof"), "--tracks", str(tracks)]


def call(command, *arguments: str) -> None:
    result = CliRunner().invoke(command, list(arguments))
    assert result.exit_code == 0, result.output + result.stderr


def settings() -> list[str]:
    """The settings of configs/minispoof.yaml, without what makes v1 differ from v2."""
    # Half a second of each recording, since it is not asked here how good the countermeasure becomes.
    values = read_config_values(CONFIG) | {"num_epochs": NUM_EPOCHS, "audio_max_len": 8000, "keep": "best"}
    return [
        text
        for name, value in values.items()
        if name not in {"recipe", "validation", "monitor", "patience"}
        for text in (f"--{name}", str(value))
    ]


def test_both_recipes_train_and_are_compared_on_real_speech(store, where) -> None:
    client = connect()
    call(main, "--config", ",".join(map(str, RECIPES)), *settings(), *where)
    runs = {run.data.tags["recipe"]: run for run in client.search_runs(["1"], "tags.kind = 'train'")}
    losses = {
        recipe: [metric.value for metric in client.get_metric_history(run.info.run_id, "train/loss")]
        for recipe, run in runs.items()
    }
    # Until one of them stops, the recipes take the same steps.
    assert 2 <= len(losses["v1"]) <= len(losses["v2"]) == NUM_EPOCHS
    assert losses["v2"][: len(losses["v1"])] == losses["v1"]
    # Below the loss of a countermeasure that says nothing, at which a saturated one stays.
    assert all(loss < math.log(2) - 0.05 for loss in losses["v2"])
    assert 0 < runs["v2"].data.metrics["val/eer_percent"] < 100
    assert "val/loss" not in runs["v1"].data.metrics
    evaluations = client.search_runs(["1"], "tags.kind = 'evaluate'")
    assert {(run.data.tags["recipe"], run.data.tags["track"]) for run in evaluations} == {
        (recipe, track) for recipe in ("v1", "v2") for track in ("dev", "LA", "DF")
    }
    for run in evaluations:
        track, metrics = run.data.tags["track"], run.data.metrics
        assert run.data.tags["corpus"] == "minispoof"
        num_trials = metrics[f"{track}/num_bonafide"] + metrics[f"{track}/num_spoof"]
        assert num_trials == {"dev": 300, "LA": 620, "DF": 620}[track]
        assert run.data.tags["train_run_id"] == runs[run.data.tags["recipe"]].info.run_id
    comparisons = client.search_runs(["1"], "tags.kind = 'compare'")
    assert {run.data.tags["track"] for run in comparisons} == {"LA", "DF"}


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
        *where,
    )
    (evaluation,) = connect().search_runs(["1"], "tags.kind = 'evaluate'")
    assert evaluation.data.metrics["DF/eer_percent"] == pytest.approx(40.6, abs=0.05)
