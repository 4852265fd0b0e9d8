"""What is known of an epoch's checkpoint on a track is not computed again, and no other number is taken for it."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.entities import Metric

from sls.config import ComputeConfig, ScoringConfig
from sls.tracking.active_run import tracked_run
from sls.tracking.evaluation.epochs import EpochEvaluator, EvaluatedEpoch
from sls.tracking.evaluation.trainings import TrainingRun, find_training_runs
from sls.tracking.registry.checkpoints import ModelSource
from sls.tracking.store import connect

SETTINGS = {
    "precision": "fp32",
    "backend": "torchaudio",
    "resampler": "soxr",
    "window_hop": "0",
    "window_combination": "none",
}
EVALUATED = {"track": "LA", "corpus": "mine", "subset": "eval", "key_sha256": "k1"}
SCORED = {"track": "LA", "corpus": "mine", "protocol_sha256": "p1", "scoring_key": "s1"}
OTHER = {
    "track": "DF",
    "corpus": "noisy",
    "subset": "progress",
    "key_sha256": "k2",
    "protocol_sha256": "p2",
    "model_id": "m-2",
    "precision": "bf16",
    "window_hop": "8000",
    "resampler": "kaiser_best",
    "condition": "opus-16",
}


class Pipeline:
    """Scores and evaluates by name only."""

    def __init__(self) -> None:
        self.client = connect()
        self.compute, self.scoring = ComputeConfig(), ScoringConfig()
        track = SimpleNamespace(default_subset="eval", key=lambda data_root: SimpleNamespace(digest="k1"))
        self.corpus = SimpleNamespace(name="mine", data_root="", track=lambda name: track)
        self.calls: list[tuple[Any, ...]] = []
        self.error = ""

    def score(self, source: ModelSource, trials: SimpleNamespace, title: str) -> str:
        self.calls.append(("score", source.uri, trials.name, title))
        self.score_run_id = make_run("score", 1, {}, {})
        return self.score_run_id

    def evaluate(
        self, score_run_id: str, request: Any, title: str, in_place: bool
    ) -> tuple[str, SimpleNamespace]:
        kind = "evaluate in place" if in_place else "evaluate"
        self.calls.append((kind, score_run_id, request.track, title))
        assert not request.is_illustrated
        if self.error:
            raise ValueError(self.error)
        return "evaluated", SimpleNamespace(metrics=lambda: {"eer_percent": 9.0})


@pytest.fixture
def training(store: Path, tmp_path: Path) -> TrainingRun:
    """A training run on LA, which kept and chose epoch 3."""
    with tracked_run("train", tags={"recipe": "v1", "chosen_epoch": "3"}) as run:
        (tmp_path / "files").mkdir()
        (tmp_path / "files" / "checkpoint.safetensors").write_bytes(b"weights")
        run.log_model("epoch_3", 3, {"epoch": "3", "recipe": "v1"}, {}, tmp_path / "files")
    (found,) = find_training_runs(connect(), [run.run_id], "0", "mine")
    return found


def evaluate(pipeline: Pipeline, training: TrainingRun) -> EvaluatedEpoch:
    """Epoch 3 on LA."""
    trials = SimpleNamespace(name="LA", corpus="mine", protocol=SimpleNamespace(digest="p1"))
    (found,) = EpochEvaluator(pipeline, [trials]).evaluate(training, 3)
    return found


def found_of(training: TrainingRun, *values: Any, **named: Any) -> EvaluatedEpoch:
    model_id = training.checkpoints[3].model_id
    return EvaluatedEpoch("v1", 3, "LA", True, training.run_id, model_id, *values, **named)


def without_weights(training: TrainingRun) -> TrainingRun:
    client = connect()
    client.set_logged_model_tags(training.checkpoints[3].model_id, {"weights": "deleted"})
    (found,) = find_training_runs(client, [training.run_id], "0", "mine")
    return found


def make_run(
    kind: str, end_time: int, tags: dict[str, str], metrics: dict[str, float], status: str = "FINISHED"
) -> str:
    client = connect()
    run_id = str(client.create_run("0", tags={"kind": kind, **SETTINGS, **tags}).info.run_id)
    client.log_batch(run_id, [Metric(f"LA/{name}", value, 0, 0) for name, value in metrics.items()])
    client.set_terminated(run_id, status, end_time)
    return run_id


def test_newest_evaluation_of_the_same_trials_as_set_is_taken(training) -> None:
    own = {**EVALUATED, "model_id": training.checkpoints[3].model_id}
    wanted = make_run("evaluate", 2, own, {"eer_percent": 2.0})
    make_run("evaluate", 1, own, {"eer_percent": 1.0, "coverage_percent": 100})
    for name in OTHER.keys() - {"protocol_sha256"}:
        make_run("evaluate", 3, {**own, name: OTHER[name]}, {"eer_percent": 3.0})
    make_run("evaluate", 3, {**own, "calibration": "a.json"}, {"eer_percent": 3.0})
    make_run("evaluate", 3, own, {"eer_percent": 3.0, "coverage_percent": 99.9})
    make_run("evaluate", 3, own, {"eer_percent": 3.0}, "FAILED")
    make_run("compare", 3, own, {"eer_percent": 3.0})
    pipeline = Pipeline()
    assert evaluate(pipeline, training) == found_of(training, 2.0, wanted)
    assert pipeline.calls == []


def test_newest_scores_of_the_same_trials_as_set_are_evaluated(training) -> None:
    own = {**SCORED, "model_id": training.checkpoints[3].model_id}
    wanted = make_run("score", 2, own, {})
    make_run("score", 1, own, {})
    for name in OTHER.keys() - {"subset", "key_sha256"}:
        make_run("score", 3, {**own, name: OTHER[name]}, {})
    make_run("score", 3, own, {}, "KILLED")
    make_run("score-shard", 3, {**own, "shard": "1/2"}, {})
    pipeline = Pipeline()
    # The scores of an epoch outlive its weights.
    found = evaluate(pipeline, without_weights(training))
    assert found == found_of(training, 9.0, "evaluated", is_new=True)
    assert pipeline.calls == [("evaluate", wanted, "LA", "v1 epoch 3")]


def test_unknown_epoch_is_scored_and_evaluated(training) -> None:
    pipeline = Pipeline()
    assert evaluate(pipeline, training) == found_of(training, 9.0, "evaluated", is_new=True)
    assert pipeline.calls == [
        ("score", f"runs:/{training.run_id}/epoch_3", "LA", "v1 epoch 3"),
        ("evaluate in place", pipeline.score_run_id, "LA", "v1 epoch 3"),
    ]


def test_epoch_that_cannot_be_evaluated_says_why(training, caplog: pytest.LogCaptureFixture) -> None:
    pipeline = Pipeline()
    pipeline.error = "scores are\nconstant"
    found = evaluate(pipeline, training)
    assert (found.eer_percent, found.is_new, found.note) == (None, True, "scores are constant")
    assert connect().get_run(pipeline.score_run_id).data.tags["error"] == "scores are constant"
    pipeline = Pipeline()
    found = evaluate(pipeline, without_weights(training))
    assert (found.eer_percent, found.is_new) == (None, False)
    assert "weights" in found.note
    assert pipeline.calls == []
    assert any(re.fullmatch(f"v1 epoch 3 on LA: .*{found.note}", line) for line in caplog.messages)


def test_run_without_a_choice_has_no_chosen_epoch(training) -> None:
    connect().delete_tag(training.run_id, "chosen_epoch")
    (unended,) = find_training_runs(connect(), [training.run_id], "0", "mine")
    assert not evaluate(Pipeline(), unended).is_chosen
