"""The evaluate and compare doors, on score files that no model of ours made."""

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import mlflow
import numpy as np
import pytest
from click.testing import CliRunner
from mlflow.entities import Run

from entrypoints.compare import compare
from entrypoints.evaluate import evaluate
from sls.data.corpora.tracks import load_tracks
from sls.data.tables.score_files import format_score
from sls.tracking.store import connect

pytestmark = pytest.mark.slow


def write_scores(path: Path, names: Iterable[str], scores: np.ndarray) -> None:
    lines = [f"{name} {format_score(score)}\n" for name, score in zip(names, scores, strict=True)]
    path.write_text("".join(lines))


@pytest.fixture
def score_files(small_corpus: Path, tmp_path: Path) -> dict[str, Path]:
    """Two systems on the LA track of the small corpus: one good, one worse."""
    key = load_tracks()["LA"].key(small_corpus)
    rng = np.random.default_rng(3)
    files = {}
    for name, distance in (("good", 3.0), ("worse", 0.5)):
        scores = (rng.normal(size=len(key)) + distance * key.labels).astype(np.float32)
        files[name] = tmp_path / f"{name}.txt"
        write_scores(files[name], key.names, scores)
    return files


def newest_run(kind: str) -> Run:
    client = connect()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(experiments, f"tags.kind = '{kind}'", order_by=["attributes.start_time DESC"])[
        0
    ]


def artifact_names(run: Run, directory: str) -> set[str]:
    return {Path(item.path).name for item in connect().list_artifacts(run.info.run_id, directory)}


def test_anyones_score_file_is_evaluated_with_a_report(store, small_corpus, score_files) -> None:
    result = CliRunner().invoke(
        evaluate,
        ["--track", "LA", "--scores", str(score_files["good"]), "--data_root", str(small_corpus)],
    )
    assert result.exit_code == 0, result.output
    run = newest_run("evaluate")
    metrics = run.data.metrics
    assert metrics["LA/eer_percent_low"] <= metrics["LA/eer_percent"] <= metrics["LA/eer_percent_high"]
    assert "LA/eer_percent_clustered_low" in metrics
    assert metrics["LA/min_tdcf"] <= 1
    assert run.data.tags["subset"] == "eval"
    assert "not_comparable" not in run.data.tags
    assert {"report.html", "report.json", "det.png"} <= artifact_names(run, "report")
    assert f"Report: runs:/{run.info.run_id}/report/report.html" in result.output
    assert "-P calibration=" not in result.output
    report = json.loads(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/report/report.json"))
    assert report["track"] == "LA"
    assert [other["subset"] for other in report["other_subsets"]] == ["all", "hidden", "progress"]
    assert len(re.findall(r"subset.*: eval \d", result.output)) == 1
    assert "synthetic" in result.output


def first_evaluated_line_first(path: Path, corpus: Path) -> list[str]:
    """Returns the lines of a score file of LA, one of the evaluated subset first."""
    evaluated = set(load_tracks()["LA"].key(corpus).select_subset("eval").names.tolist())
    lines = path.read_text().splitlines(keepends=True)
    return sorted(lines, key=lambda line: line.split()[0] not in evaluated)


def test_scores_of_the_evaluated_subset_are_whole(store, small_corpus, score_files) -> None:
    path = score_files["good"]
    arguments = ["--track", "LA", "--data_root", str(small_corpus)]
    whole = CliRunner().invoke(evaluate, [*arguments, "--scores", str(path)])
    assert whole.exit_code == 0
    expected = newest_run("evaluate").data
    num_evaluated = len(load_tracks()["LA"].key(small_corpus).select_subset("eval"))
    part = path.with_name("eval.txt")
    part.write_text("".join(first_evaluated_line_first(path, small_corpus)[:num_evaluated]))
    alone = CliRunner().invoke(evaluate, [*arguments, "--scores", str(part)])
    assert alone.exit_code == 0, alone.output
    found = newest_run("evaluate").data
    assert found.metrics["LA/eer_percent"] == expected.metrics["LA/eer_percent"]
    assert "not_comparable" not in found.tags
    both = CliRunner().invoke(compare, [*arguments, "--scores", f"all={path},eval={part}"])
    assert both.exit_code == 0, both.output


def test_partial_scores_are_refused_unless_allowed(store, small_corpus, score_files) -> None:
    path = score_files["good"]
    lines = first_evaluated_line_first(path, small_corpus)
    path.write_text("".join(lines[1:]))
    arguments = ["--track", "LA", "--scores", str(path), "--data_root", str(small_corpus)]
    refused = CliRunner().invoke(evaluate, arguments)
    assert refused.exit_code == 2
    assert lines[0].split()[0] in refused.stderr
    allowed = CliRunner().invoke(evaluate, [*arguments, "--allow_partial", "true", "--subset", "all"])
    assert allowed.exit_code == 0, allowed.output
    coverage = newest_run("evaluate").data.metrics["LA/coverage_percent"]
    assert coverage == pytest.approx(100 * (len(lines) - 1) / len(lines))
    assert newest_run("evaluate").data.tags["not_comparable"] == "subset all, some of the trials"
    assert CliRunner().invoke(evaluate, [*arguments, "--allow_partial", "true"]).exit_code == 0
    assert newest_run("evaluate").data.tags["not_comparable"] == "some of the trials"


def test_calibration_fitted_by_one_run_is_applied_by_another(
    store, small_corpus, score_files, tmp_path
) -> None:
    arguments = [
        "--track",
        "LA",
        "--scores",
        str(score_files["good"]),
        "--data_root",
        str(small_corpus),
    ]
    fitted = CliRunner().invoke(evaluate, [*arguments, "--fit_calibration", "logistic"])
    assert fitted.exit_code == 0, fitted.output
    before = newest_run("evaluate")
    assert f"-P calibration={before.info.run_id}" in fitted.output
    calibrated = ["--calibration", before.info.run_id]
    same = CliRunner().invoke(evaluate, [*arguments, *calibrated])
    assert same.exit_code == 2
    assert re.search(rf"calibration: run {before.info.run_id} .*these very scores", same.stderr)
    arguments[3] = str(tmp_path / "nearly.txt")
    rows = [line.split() for line in score_files["good"].read_text().splitlines()]
    Path(arguments[3]).write_text("".join(f"{name} {float(score) + 1e-4}\n" for name, score in rows))
    applied = CliRunner().invoke(evaluate, [*arguments, *calibrated])
    assert applied.exit_code == 0, applied.output
    after = newest_run("evaluate")
    assert after.data.tags["not_comparable"] == "calibrated"
    assert after.data.tags["calibration"] == before.info.run_id
    # On scores so near to those on which it was fitted, a calibration can only help.
    assert after.data.metrics["LA/cllr"] < before.data.metrics["LA/cllr"]
    assert after.data.metrics["LA/eer_percent"] == pytest.approx(before.data.metrics["LA/eer_percent"])
    without = CliRunner().invoke(evaluate, [*arguments, "--calibration", after.info.run_id])
    assert without.exit_code == 2
    assert "fitted none" in without.stderr


def test_comparison_says_who_is_better_and_keeps_the_report(store, small_corpus, score_files) -> None:
    scores = ",".join(f"{name}={path}" for name, path in score_files.items())
    result = CliRunner().invoke(
        compare, ["--track", "LA", "--scores", scores, "--data_root", str(small_corpus)]
    )
    assert result.exit_code == 0, result.output
    assert "good is better than worse on LA" in result.output
    run = newest_run("compare")
    assert run.data.tags["verdict"] in " ".join(result.output.split())
    assert run.data.metrics["LA/eer_percent.good"] < run.data.metrics["LA/eer_percent.worse"]
    assert {"report.html", "report.json", "det.png"} <= artifact_names(run, "report")
    report = json.loads(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/report/report.json"))
    clustered = report["differences"][0]["over_clusters"]
    assert f"(over {clustered['interval']['over']}" in run.data.tags["verdict"]


def test_a_comparison_leaves_trials_out_only_where_that_is_allowed_and_says_so_once(
    store, small_corpus, score_files
) -> None:
    part = score_files["worse"]
    part.write_text("".join(part.read_text().splitlines(keepends=True)[:-1]))
    scores = ",".join(f"{name}={path}" for name, path in score_files.items())
    arguments = ["--track", "LA", "--subset", "all", "--scores", scores, "--data_root", str(small_corpus)]
    refused = CliRunner().invoke(compare, arguments)
    assert refused.exit_code == 2
    assert f"{part}: 1 trial " in refused.stderr
    result = CliRunner().invoke(compare, [*arguments, "--allow_partial", "true"])
    assert result.exit_code == 0, result.output
    assert (result.stdout + result.stderr).count(" in common") == 1
    assert f"Report: runs:/{newest_run('compare').info.run_id}/report/report.html" in result.output


def test_the_scores_of_a_run_go_by_the_run_in_messages(store, small_corpus, score_files, tmp_path) -> None:
    part = tmp_path / "LA.txt"
    part.write_text("".join(first_evaluated_line_first(score_files["good"], small_corpus)[1:]))
    with mlflow.start_run() as scored:
        mlflow.log_artifact(str(part), "scores")
    arguments = ["--track", "LA", "--scores", scored.info.run_id, "--data_root", str(small_corpus)]
    result = CliRunner().invoke(evaluate, arguments)
    assert result.exit_code == 2
    assert f"evaluate: runs:/{scored.info.run_id}/scores/LA.txt: 1 trial " in result.stderr


def test_comparison_of_fewer_than_two_systems_is_refused(store, small_corpus, score_files) -> None:
    path = score_files["good"]
    arguments = ["--track", "LA", "--data_root", str(small_corpus)]
    one = CliRunner().invoke(compare, [*arguments, "--scores", str(path)])
    assert one.exit_code == 2
    assert "systems: found 1, expected two" in one.stderr
    same = CliRunner().invoke(compare, [*arguments, "--scores", f"{path},{path}"])
    assert same.exit_code == 2
    assert re.search(r"second .*\bgood\b", same.stderr)


def test_a_named_key_needs_no_data_root_and_makes_no_demo_corpus_of_it(
    store, small_corpus, score_files, tmp_path, monkeypatch
) -> None:
    monkeypatch.delenv("SLS_DATA_ROOT", raising=False)
    key = load_tracks()["In-the-Wild"].key(small_corpus)
    away = tmp_path / "away"
    away.mkdir()
    rows = zip(key.names.tolist(), key.labels.tolist(), strict=True)
    lines = [f"- {name} - - - {'bonafide' if label else 'spoof'}\n" for name, label in rows]
    (away / "key.txt").write_text("".join(lines))
    (away / "CORPUS.yaml").write_text("corpus: mine\n")
    write_scores(away / "scores.txt", key.names, np.arange(len(key), dtype=np.float32))
    options = ["--track", "In-the-Wild", "--key", str(away / "key.txt")]
    result = CliRunner().invoke(evaluate, [*options, "--scores", str(away / "scores.txt")])
    assert result.exit_code == 0, result.output
    assert "synthetic" not in result.output
    assert "by subset" not in result.output
    tags = newest_run("evaluate").data.tags
    assert tags["corpus"] == "mine"
    assert "speakers" not in tags
    assert "95 % over trials" in result.output
    assert "speaker" not in result.output
    speakers = shutil.copy(key.source, away / "meta.csv")
    result = CliRunner().invoke(evaluate, [*options, "--scores", str(away / "scores.txt")])
    assert result.exit_code == 0, result.output
    run = newest_run("evaluate")
    assert (run.data.tags["speakers"], run.data.tags["speakers_sha256"]) == (str(speakers), key.digest)
    report = json.loads(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/report/report.json"))
    assert report["provenance"]["speakers"] == {"file": "meta.csv", "sha256": key.digest}
    _, clustered = report["measures"][0]["intervals"]
    assert all("speakers" in name for name in clustered["clusters"])
    # The table's heading may be wrapped.
    assert {*clustered["over"].split(), *map(str, clustered["clusters"].values())} <= {*result.output.split()}


def test_a_key_that_is_not_there_is_named(store, score_files, monkeypatch, capfd) -> None:
    monkeypatch.delenv("SLS_DATA_ROOT", raising=False)
    options = ["--track", "LA", "--key", "nowhere.txt", "--scores", str(score_files["good"])]
    result = CliRunner().invoke(evaluate, options)
    assert result.exit_code == 2
    assert re.search(r"key: .*nowhere\.txt", capfd.readouterr().err + result.output)
