"""What decisions cost elsewhere stands on the training run, and on the versions of its checkpoint."""

from pathlib import Path

import numpy as np
import pytest

from sls.config import DataConfig
from sls.data.corpora.corpus import open_corpus
from sls.data.tables.score_files import format_score
from sls.metrics.dcf import DetectionCosts
from sls.tracking.active_run import tracked_run
from sls.tracking.evaluation.evaluation_run import EvaluationRequest
from sls.tracking.evaluation.operating_points import track_operating_points
from sls.tracking.evaluation.score_sources import find_systems_by_track
from sls.tracking.registry.champions import choose_champion
from sls.tracking.store import REGISTERED_MODEL_NAME, connect
from tests.tracking.registry.test_parent_run import make_origin

TRACKS = ("dev", "LA", "DF")


@pytest.fixture
def scored(store, small_corpus: Path) -> tuple[str, str, list[str]]:
    """A training run, the checkpoint that it chose, and its scoring runs of three tracks; it has a version."""
    client, corpus = connect(), open_corpus(DataConfig(data_root=str(small_corpus)))
    train_run_id, models = make_origin(client, corpus=corpus.name)
    rng = np.random.default_rng(5)
    places = []
    for track in TRACKS:
        key = corpus.track(track).key(small_corpus)
        lines = [
            f"{name} {format_score(value)}\n"
            for name, value in zip(key.names, rng.normal(size=len(key)) + 3.0 * key.labels, strict=True)
        ]
        tags = {"kind": "score", "track": track, "corpus": corpus.name, "scoring_key": track}
        tags |= {"model_id": models[1], "train_run_id": train_run_id, "recipe": "v1", "epoch": "1"}
        run_id = client.create_run("0", tags=tags).info.run_id
        client.log_text(run_id, "".join(lines), f"scores/{track}.txt")
        client.set_terminated(run_id)
        places.append(f"{track}/v1={run_id}")
    client.create_registered_model(REGISTERED_MODEL_NAME)
    client.create_model_version(
        REGISTERED_MODEL_NAME,
        source="nowhere/model",
        tags={"checkpoint_model_id": models[1], "stage": "staging"},
    )
    return train_run_id, models[1], places


def judge(small_corpus: Path, places: list[str], tmp_path: Path, **options):
    corpus = open_corpus(DataConfig(data_root=str(small_corpus)))
    with tracked_run("operating_point") as run:
        placed = find_systems_by_track(run.client, corpus.name, TRACKS, places, [], tmp_path)
        request = EvaluationRequest("", options.pop("subset", ""))
        return track_operating_points(run, placed, corpus, request, **options)


@pytest.mark.slow
def test_decisions_stand_on_the_training_run_and_on_the_version(scored, small_corpus, tmp_path) -> None:
    train_run_id, _, places = scored
    report = judge(small_corpus, places, tmp_path)
    (matrix,) = report.matrices
    metrics = connect().get_run(train_run_id).data.metrics
    expected = {
        f"{track}/{name}_by_{method}_of_dev"
        for track in ("LA", "DF")
        for name in ("miss_percent", "false_alarm_percent", "act_dcf")
        for method in ("eer_threshold", "logistic")
    }
    assert set(metrics) == expected
    found = matrix.find("dev", "DF", "logistic")
    assert metrics["DF/act_dcf_by_logistic_of_dev"] == pytest.approx(found.value("act_dcf"))
    tags = connect().get_model_version(REGISTERED_MODEL_NAME, "1").tags
    assert tags["demo.DF.act_dcf_from"] == "dev"
    assert float(tags["demo.DF.act_dcf"]) == pytest.approx(found.value("act_dcf"), abs=1e-4)
    assert choose_champion(connect(), "demo.DF", "act_dcf").version == "1"


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"subset": "all"}, {"split": "speaker"}, {"costs": DetectionCosts(spoof_prior=0.5)}]
)
def test_decisions_of_another_kind_stand_on_their_own_run_alone(
    scored, small_corpus, tmp_path, options
) -> None:
    train_run_id, _, places = scored
    judge(small_corpus, places, tmp_path, **options)
    assert not connect().get_run(train_run_id).data.metrics
    assert "demo.DF.act_dcf" not in connect().get_model_version(REGISTERED_MODEL_NAME, "1").tags


def test_decisions_on_degraded_recordings_stand_on_their_own_run_alone(
    scored, small_corpus, tmp_path
) -> None:
    train_run_id, _, places = scored
    connect().set_tag(places[1].partition("=")[2], "condition", "opus-16")
    judge(small_corpus, [place.replace("/v1=", "/one=") for place in places], tmp_path)
    assert not connect().get_run(train_run_id).data.metrics
    assert "demo.DF.act_dcf" not in connect().get_model_version(REGISTERED_MODEL_NAME, "1").tags
