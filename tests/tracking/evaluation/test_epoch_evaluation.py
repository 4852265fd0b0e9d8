"""What is known of an epoch's checkpoint on a track is not computed again, and no other number is taken for it."""

from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.entities import Metric

from sls.config import ComputeConfig, ScoringConfig
from sls.tracking.evaluation.epoch_evaluation import EpochEvaluator, EvaluatedEpoch, TrainingRun
from sls.tracking.store import connect

# What runs say from before there was a choice of resampler: soxr.
SETTINGS = {"precision": "fp32", "backend": "torchaudio", "window_hop": "0", "window_combination": "none"}
EVALUATED = {"track": "LA", "corpus": "mine", "subset": "eval", "key_sha256": "k1", "model_id": "m-1"}
SCORED = {"track": "LA", "corpus": "mine", "protocol_sha256": "p1", "model_id": "m-1"}
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

    def score(self, source: str, trials: SimpleNamespace, title: str) -> str:
        self.calls.append(("score", source, trials.name, title))
        return "scored"

    def evaluate(self, score_run_id: str, request: Any, title: str) -> tuple[str, SimpleNamespace]:
        self.calls.append(("evaluate", score_run_id, request.track, title))
        assert not request.is_illustrated
        if self.error:
            raise ValueError(self.error)
        return "evaluated", SimpleNamespace(metrics=lambda: {"eer_percent": 9.0})


def evaluate(pipeline: Pipeline, **model_tags: str) -> EvaluatedEpoch:
    """Epoch 3 of a recipe on LA."""
    run = SimpleNamespace(info=SimpleNamespace(run_id="r1"), data=SimpleNamespace(tags={"chosen_epoch": "3"}))
    training = TrainingRun("v1", run, {3: SimpleNamespace(model_id="m-1", tags=model_tags)})
    checkpoint = SimpleNamespace(training=training, epoch=3, source="checkpoint")
    trials = SimpleNamespace(name="LA", corpus="mine", protocol=SimpleNamespace(digest="p1"))
    return EpochEvaluator(pipeline, [trials]).evaluate(checkpoint, trials)


def make_run(
    kind: str, end_time: int, tags: dict[str, str], metrics: dict[str, float], status: str = "FINISHED"
) -> str:
    client = connect()
    run_id = str(client.create_run("0", tags={"kind": kind, **SETTINGS, **tags}).info.run_id)
    client.log_batch(run_id, [Metric(f"LA/{name}", value, 0, 0) for name, value in metrics.items()])
    client.set_terminated(run_id, status, end_time)
    return run_id


def test_newest_evaluation_of_the_same_trials_as_set_is_taken(store) -> None:
    wanted = make_run("evaluate", 2, EVALUATED, {"eer_percent": 2.0})
    make_run("evaluate", 1, EVALUATED, {"eer_percent": 1.0, "coverage_percent": 100})
    for name in OTHER.keys() - {"protocol_sha256"}:
        make_run("evaluate", 3, {**EVALUATED, name: OTHER[name]}, {"eer_percent": 3.0})
    make_run("evaluate", 3, {**EVALUATED, "calibration": "a.json"}, {"eer_percent": 3.0})
    make_run("evaluate", 3, EVALUATED, {"eer_percent": 3.0, "coverage_percent": 99.9})
    make_run("evaluate", 3, EVALUATED, {"eer_percent": 3.0}, "FAILED")
    make_run("compare", 3, EVALUATED, {"eer_percent": 3.0})
    pipeline = Pipeline()
    assert evaluate(pipeline) == EvaluatedEpoch("v1", 3, "LA", True, "r1", "m-1", 2.0, wanted)
    assert pipeline.calls == []


def test_newest_scores_of_the_same_trials_as_set_are_evaluated(store) -> None:
    wanted = make_run("score", 2, SCORED, {})
    make_run("score", 1, SCORED, {})
    for name in OTHER.keys() - {"subset", "key_sha256"}:
        make_run("score", 3, {**SCORED, name: OTHER[name]}, {})
    make_run("score", 3, SCORED, {}, "KILLED")
    pipeline = Pipeline()
    # The scores of an epoch outlive its weights.
    found = evaluate(pipeline, weights="deleted")
    assert found == EvaluatedEpoch("v1", 3, "LA", True, "r1", "m-1", 9.0, "evaluated", is_new=True)
    assert pipeline.calls == [("evaluate", wanted, "LA", "v1 epoch 3")]


def test_unknown_epoch_is_scored_and_evaluated(store) -> None:
    pipeline = Pipeline()
    found = evaluate(pipeline)
    assert found == EvaluatedEpoch("v1", 3, "LA", True, "r1", "m-1", 9.0, "evaluated", is_new=True)
    assert pipeline.calls == [
        ("score", "checkpoint", "LA", "v1 epoch 3"),
        ("evaluate", "scored", "LA", "v1 epoch 3"),
    ]


def test_epoch_that_cannot_be_evaluated_says_why(store, caplog: pytest.LogCaptureFixture) -> None:
    pipeline = Pipeline()
    found = evaluate(pipeline, weights="deleted")
    assert (found.eer_percent, found.is_new, found.note) == (None, False, "its weights were not kept")
    assert pipeline.calls == []
    pipeline.error = "scores are\nconstant"
    found = evaluate(pipeline)
    assert (found.eer_percent, found.is_new, found.note) == (None, True, "scores are constant")
    assert caplog.messages[0] == "v1 epoch 3 on LA: not evaluated: its weights were not kept"


def test_run_without_a_choice_has_no_chosen_epoch() -> None:
    run = SimpleNamespace(data=SimpleNamespace(tags={}))
    assert TrainingRun("v1", run, {}).chosen_epoch is None
