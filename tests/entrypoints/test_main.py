"""The main door where dev can be calibrated, which a countermeasure that hardly trained may not allow."""

from pathlib import Path

import mlflow
import numpy as np
import pytest
from click.testing import CliRunner

from entrypoints.main import MORE_FOLLOWS_VARIABLE, RECIPES, main
from sls.config import PROJECT_ROOT, DataConfig
from sls.data.corpora.corpus import open_corpus
from sls.data.loading.trial_lists import TrialList
from sls.data.tables.score_files import format_score
from sls.engine.evaluation.calibration import load_calibration
from sls.tracking.active_run import tracked_run
from sls.tracking.evaluation.pipeline import Pipeline
from sls.tracking.registry.checkpoints import ModelSource
from sls.tracking.store import REGISTERED_MODEL_NAME, connect
from tests.entrypoints.test_evaluate_and_compare import newest_run

pytestmark = pytest.mark.slow

SPREAD = 3.0
"""Between the scores of both classes."""


def score_as_made(pipeline: Pipeline, source: ModelSource, trials: TrialList, title: str) -> str:
    """Takes the place of `Pipeline.score`: a scoring run of the checkpoint whose scores are known."""
    rng = np.random.default_rng(len(trials.trials))
    lines = [
        f"{trial.name} {format_score(rng.normal() + SPREAD * int(trial.label or 0))}\n"
        for trial in trials.trials
    ]
    with tracked_run("score", f"score {title} {trials.name}", pipeline.links) as run:
        run.set_tags(
            {**source.tags(), "track": trials.name, "corpus": trials.corpus, "scoring_key": trials.name}
        )
        run.log_contents({f"{trials.name}.txt": "".join(lines).encode()}, "scores")
    return run.run_id


def test_a_recipe_is_registered_with_a_calibration_of_dev_and_its_decisions_are_printed(
    store, small_corpus: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(Pipeline, "score", score_as_made)
    # As `make demo` does, at whose end `epochs` says what to do next.
    monkeypatch.setenv(MORE_FOLLOWS_VARIABLE, "1")
    assert f"{MORE_FOLLOWS_VARIABLE}=1 mlflow run . " in (PROJECT_ROOT / "Makefile").read_text()
    options = {
        "config": RECIPES[0],
        "data_root": small_corpus,
        "xlsr_model": "random:tiny",
        "num_epochs": 1,
        "num_workers": 0,
        "device": "cpu",
    }
    done = CliRunner().invoke(
        main, [word for name, value in options.items() for word in (f"--{name}", str(value))]
    )
    assert done.exit_code == 0, done.output + done.stderr
    assert "Compare the recipes" not in done.output
    client = connect()
    version = client.get_model_version_by_alias(REGISTERED_MODEL_NAME, "recipe-v1")
    outputs = mlflow.models.get_model_info(version.source).signature.outputs.input_names()
    assert {"llr", "decision", "calibration"} <= set(outputs)
    (fit,) = client.search_runs(["1"], "tags.kind = 'evaluate' and tags.track = 'dev'")
    path = mlflow.artifacts.download_artifacts(
        f"runs:/{fit.info.run_id}/calibration.json", dst_path=str(tmp_path)
    )
    low, high = load_calibration(path).score_range
    assert f"{low:.6g} to {high:.6g}" in version.description
    assert "fitted on dev" in version.description
    assert "they are known to it" not in version.description  # v1 has not looked at dev
    decisions = newest_run("operating_point")
    assert "Decisions by a calibration of dev" in done.output
    training = client.get_run(version.tags["run_id"]).data.metrics
    for track in ("LA", "DF", "In-the-Wild"):
        name = f"{track}/miss_percent_by_logistic_of_dev"
        miss, false_alarm = (
            decisions.data.metrics[name.replace("miss", wrong)] for wrong in ("miss", "false_alarm")
        )
        assert f"{miss:.2f} / {false_alarm:.2f}" in done.output
        assert training[name] == miss
        assert version.tags[f"demo.{track}.act_dcf_from"] == "dev"
        key = open_corpus(DataConfig(data_root=str(small_corpus))).track(track).key(small_corpus)
        assert version.tags[f"demo.{track}.act_dcf_on"] == key.digest
