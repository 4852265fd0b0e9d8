"""The operating_point door, on score files that no model of ours made."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
from click.testing import CliRunner

from entrypoints.operating_point import operating_point
from sls.data.corpora.tracks import load_tracks
from tests.entrypoints.test_evaluate_and_compare import artifact_names, newest_run, write_scores

TRACKS = ("dev", "LA", "DF")


@pytest.fixture
def placed(small_corpus: Path, tmp_path: Path) -> dict[str, Path]:
    """A system on three tracks of the small corpus, whose scores move from track to track."""
    rng = np.random.default_rng(3)
    files = {}
    for shift, track in enumerate(TRACKS):
        key = load_tracks()[track].key(small_corpus)
        scores = rng.normal(size=len(key)) + 2.0 * key.labels + shift
        files[track] = tmp_path / f"{track}.txt"
        write_scores(files[track], key.names, scores.astype(np.float32))
    return files


def invoke(small_corpus: Path, **options: str):
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    return CliRunner().invoke(operating_point, [*arguments, "--data_root", str(small_corpus)])


def test_every_track_is_judged_at_the_thresholds_of_the_others(store, small_corpus, placed) -> None:
    scores = ",".join(f"{track}={path}" for track, path in placed.items())
    result = invoke(small_corpus, track=",".join(TRACKS), scores=scores)
    assert result.exit_code == 0, result.output
    assert "the EER threshold of dev does worst on DF" in result.output or "of DF does worst" in result.output
    assert "synthetic" in result.output
    run = newest_run("operating_point")
    metrics = run.data.metrics
    # Scores of DF are higher by 2: at the threshold of dev most of the spoofed trials are accepted.
    assert metrics["DF/false_alarm_percent_by_eer_threshold_of_dev"] > 50
    assert metrics["DF/miss_percent_by_eer_threshold_of_dev"] < 10
    assert run.data.tags["scores.LA.system"] == str(placed["LA"])
    assert {"subset.LA", "key_sha256.DF"} <= set(run.data.tags)
    assert float(run.data.tags["spoof_prior"]) == 0.05
    assert {"report.html", "report.json", "eer_threshold_1.png", "logistic_1.png"} <= artifact_names(
        run, "report"
    )
    report = json.loads(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/report/report.json"))
    assert report["costs"]["false_alarm_cost"] == 10
    assert len(report["matrices"][0]["transfers"]) == 3 * 3 * 4


def test_one_track_is_halved_by_its_speakers(store, small_corpus, placed) -> None:
    scores = f"ours={placed['LA']}"
    result = invoke(
        small_corpus, track="LA", scores=scores, split="speaker", spoof_prior="0.5", false_alarm_cost="1"
    )
    assert result.exit_code == 0, result.output
    assert "LA half 2" in result.output
    run = newest_run("operating_point")
    assert "LA half 1/act_dcf_by_logistic_of_LA half 2" in run.data.metrics


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"track": ""}, "track: found nothing"),
        ({"track": "dev,LA", "scores": "{dev}"}, "scores: found"),
        ({"track": "dev,LA", "scores": "dev/a={dev},LA/b={LA}"}, "a, b on dev or on LA alone"),
        ({"track": "dev", "scores": "dev={dev}"}, "found dev and one system"),
        ({"track": "dev,LA", "scores": "dev={dev},LA={dev}"}, "LA"),
        ({"track": "dev", "scores": "dev={dev}", "split": "attack"}, "split: found 'attack'"),
        ({"track": "dev", "scores": "dev={dev}", "miss_cost": "cheap"}, "miss_cost: found 'cheap'"),
        ({"track": "dev", "scores": "dev={dev}", "spoof_prior": "1.5"}, "spoof_prior: found 1.5"),
        (
            {"track": "dev", "scores": "dev={dev}", "miss_cost": "inf"},
            "miss_cost and false_alarm_cost: found inf",
        ),
    ],
)
def test_what_is_typed_wrongly_is_named(store, small_corpus, placed, options, told) -> None:
    named = {name: value.format(**placed) for name, value in options.items()}
    result = invoke(small_corpus, **named)
    assert result.exit_code == 2
    assert told in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
