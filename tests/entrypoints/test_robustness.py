"""The robustness door, `sls.tracking.evaluation.robustness`: a tiny model on a track, under three conditions."""

import csv
import json
import signal
from math import ceil
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner, Result
from mlflow.entities import Run

from entrypoints.evaluate import evaluate
from entrypoints.robustness import robustness
from entrypoints.score import score
from sls.data.tables.score_files import read_scores
from sls.engine.scoring.partial_scores import partial_path, read_partial
from sls.models.checkpoints import CheckpointInfo, build_countermeasure, save_checkpoint
from sls.tracking.active_run import tracked_run
from sls.tracking.registry.checkpoints import log_checkpoint
from sls.tracking.store import connect
from tests.entrypoints.scoring_work import start_door
from tests.entrypoints.test_evaluate_and_compare import artifact_names, newest_run
from tests.signalled_door import signalled

NUM_SAMPLES = 8_000
CONDITIONS = ("noisy", "trimmed", "silence-alone")
CPU = {"device": "cpu", "num_workers": "0", "eval_batch_size": "4"}


@pytest.fixture
def trained(store: Path) -> str:
    """A training run that chose its only epoch."""
    with tracked_run("train", "train v1", {"recipe": "v1", "corpus": "demo", "chosen_epoch": "2"}) as run:
        model = build_countermeasure("random:tiny", NUM_SAMPLES, 3)
        info = CheckpointInfo(model.encoder, NUM_SAMPLES, epoch=2, recipe="v1", run_id=run.run_id)
        log_checkpoint(run, model, info, {})
    return run.run_id


@pytest.fixture
def conditions(tmp_path: Path) -> Path:
    """Conditions of one's own, beside the built-in ones."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "noisy: {kind: white-noise, snr_db: 3}\ntrimmed: {kind: silence-trimmed, threshold_db: 30}\n"
    )
    return path


@pytest.fixture
def arguments(trained: str, small_corpus: Path, conditions: Path, tmp_path: Path) -> dict[str, str]:
    return {
        "model": f"runs:/{trained}",
        "track": "In-the-Wild",
        "data_root": str(small_corpus),
        "conditions": str(conditions),
        "only": ",".join(CONDITIONS),
        "output": str(tmp_path / "scores"),
        **CPU,
    }


def words(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def call(arguments: dict[str, str], **more: str) -> Result:
    return CliRunner().invoke(robustness, words(arguments | more))


def runs_of(kind: str) -> list[Run]:
    client = connect()
    places = [item.experiment_id for item in client.search_experiments()]
    return client.search_runs(places, f"tags.kind = '{kind}'", order_by=["attributes.start_time DESC"])


@pytest.mark.slow
def test_a_track_is_judged_under_conditions_and_nothing_takes_these_for_clean(
    trained: str, arguments: dict[str, str], small_corpus: Path, tmp_path: Path
) -> None:
    scoring = {name: arguments[name] for name in ("model", "track", "data_root", *CPU)}
    clean_file = str(tmp_path / "clean.txt")
    assert CliRunner().invoke(score, words(scoring | {"output": clean_file})).exit_code == 0
    (clean_run,) = runs_of("score")
    done = call(arguments)
    assert done.exit_code == 0, done.output
    run = newest_run("robustness")
    assert "worst of 2 conditions" in done.output
    assert "silence around speech alone" in done.output
    assert run.data.tags["verdict"].startswith("v1 epoch 2, worst of 2 conditions")

    # The clean scoring was found; each condition has a run of its own, below that of the door.
    degraded = {found.data.tags["condition"]: found for found in runs_of("score")[:-1]}
    assert sorted(degraded) == sorted(CONDITIONS)
    assert run.data.tags["mlflow.parentRunId"] == trained
    for name, found in degraded.items():
        assert found.data.tags["mlflow.parentRunId"] == run.info.run_id
        assert found.info.run_name == f"score v1 In-the-Wild {name}"
        assert json.loads(found.data.tags["condition_settings"])["kind"]
        uri = f"runs:/{found.info.run_id}/scores/In-the-Wild.{name}.txt.json"
        assert json.loads(mlflow.artifacts.load_text(uri))["condition"] == name
    assert run.data.tags["scores.clean"].startswith(f"runs:/{clean_run.info.run_id}/")

    assert {"report.html", "report.json", "conditions.png", "flips.csv"} <= artifact_names(run, "report")
    report = json.loads(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/report/report.json"))
    assert [item["condition"]["name"] for item in report["results"]][-1] == "silence-alone"
    flips = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/report/flips.csv").splitlines()
    assert flips[0] == "condition,trial,label,clean_score,degraded_score"
    assert {row["condition"] for row in csv.DictReader(flips)} <= {"noisy", "trimmed"}

    borne = connect().get_run(trained).data.metrics
    prefix = "robustness/In-the-Wild"
    wanted = {f"{prefix}/{name}/eer_diff_percent" for name in CONDITIONS}
    assert wanted == {name for name in borne if name.endswith("diff_percent")}
    assert all("/eer_diff_percent" in name for name in borne)
    for name in wanted:
        assert run.data.metrics[name] == borne[name]
    assert {f"{prefix}/noisy/miss_percent", f"{prefix}/noisy/false_alarm_percent"} <= set(run.data.metrics)

    # Known to the store: nothing is scored again, though the files are gone.
    for path in (tmp_path / "scores").iterdir():
        path.unlink()
    again = call(arguments)
    assert again.exit_code == 0, again.output
    assert len(runs_of("score")) == 4
    assert newest_run("robustness").data.metrics == run.data.metrics

    # Without a name the clean scores are evaluated; degraded ones, named, change nothing of the training run.
    where = {"track": "In-the-Wild", "data_root": str(small_corpus)}
    assert CliRunner().invoke(evaluate, words(where)).exit_code == 0
    clean_evaluation = newest_run("evaluate")
    assert clean_evaluation.data.tags["score_run_id"] == clean_run.info.run_id
    of_noise = {"scores": degraded["noisy"].info.run_id}
    assert CliRunner().invoke(evaluate, words(where | of_noise)).exit_code == 0
    named = newest_run("evaluate").data
    assert named.tags["not_comparable"] == "condition noisy"
    (noisy,) = (item for item in report["results"] if item["condition"]["name"] == "noisy")
    expected = 100 * noisy["measures"][0]["value"]
    assert named.metrics["In-the-Wild/eer_percent"] == pytest.approx(expected)
    assert connect().get_run(trained).data.tags["evaluated_by.In-the-Wild"] == clean_evaluation.info.run_id


@pytest.mark.slow
def test_workers_and_shards_change_no_byte(arguments: dict[str, str], tmp_path: Path) -> None:
    whole, parts = tmp_path / "scores", tmp_path / "parts"
    arguments |= {"only": "noisy"}
    assert call(arguments, num_workers="1").exit_code == 0
    alone = arguments | {"output": str(parts), "force": "true"}
    for number in (2, 1):
        done = call(alone, shard=f"{number}/2")
        assert done.exit_code == 0, done.output
        assert "without shard" in done.output
    assert not list(parts.glob("*.txt"))
    assert len(runs_of("score")) == 2
    # What is finished elsewhere would be taken: these are joined as a store would that knows nothing of it.
    client = connect()
    for run in runs_of("score"):
        client.delete_run(run.info.run_id)
    # Of shards that are of another precision, or of another condition of that name, nothing is joined.
    other = tmp_path / "other.yaml"
    other.write_text("noisy: {kind: white-noise, snr_db: 30}\n")
    for name, change in (("clean", {"precision": "bf16"}), ("noisy", {"conditions": str(other)})):
        refused = call(arguments, output=str(parts), **change)
        assert refused.exit_code == 2
        assert f"{name}.txt.1-of-2.partial: found scores with" in refused.stderr
        assert next(iter(change)).rstrip("s") in refused.stderr
        assert not (parts / f"In-the-Wild.{name}.txt").exists()
    (
        missing := partial_path(parts / "In-the-Wild.noisy.txt").with_name(
            "In-the-Wild.noisy.txt.2-of-2.partial"
        )
    )
    content = missing.read_bytes()
    missing.unlink()
    refused = call(arguments, output=str(parts))
    assert refused.exit_code == 2
    assert "not scored" in refused.stderr
    missing.write_bytes(content)
    done = call(arguments, output=str(parts))
    assert done.exit_code == 0, done.output
    files = {path.name: path.read_bytes() for path in whole.glob("*.txt")}
    assert len(set(files.values())) == len(files) == 2
    assert {path.name: path.read_bytes() for path in parts.glob("*.txt")} == files
    assert {run.data.tags.get("condition") for run in runs_of("score")} == {None, "noisy"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"only": "opuss"}, "conditions: found opuss"),
        ({"conditions": "nowhere.yaml"}, "nowhere.yaml"),
        ({"track": "Mars"}, "Mars"),
        ({"shard": "3/2"}, "shard: found 3/2"),
        ({"shard": "1/2", "eval_batch_size": "0"}, "eval_batch_size: found 0"),
        ({"subset": "Mars"}, "Mars"),
        ({"force": "perhaps"}, "force: found 'perhaps'"),
    ],
)
def test_what_is_typed_wrongly_is_named(
    arguments: dict[str, str], changes: dict[str, str], told: str
) -> None:
    result = call(arguments, **changes)
    assert result.exit_code == 2
    assert told in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not runs_of("score")


def test_a_model_of_another_rate_is_refused_before_anything_is_scored(
    arguments: dict[str, str], tmp_path: Path
) -> None:
    model = build_countermeasure("random:tiny", NUM_SAMPLES, 3)
    path = tmp_path / "narrow.safetensors"
    save_checkpoint(path, model, CheckpointInfo(model.encoder, NUM_SAMPLES, sample_rate_hz=8_000))
    result = call(arguments, model=str(path))
    assert result.exit_code == 2
    assert "model: found one of 8000 Hz" in result.stderr
    assert not runs_of("score")


@pytest.mark.slow
def test_a_launch_of_several_processes_is_refused(
    arguments: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = call(arguments)
    assert result.exit_code == 2
    assert "launch: found 2 processes" in result.stderr


def finished_by_condition() -> dict[str, Run]:
    finished = [run for run in runs_of("score") if run.info.status == "FINISHED"]
    found = {run.data.tags.get("condition", ""): run for run in finished}
    assert len(found) == len(finished)
    return found


@pytest.mark.slow
def test_a_killed_robustness_run_goes_on_where_it_was(arguments: dict[str, str], tmp_path: Path) -> None:
    arguments |= {"track": "LA", "only": "noisy,opus-12"}
    assert call(arguments, output=str(tmp_path / "whole"), only="opus-12").exit_code == 0
    client = connect()
    for run in runs_of("score"):
        client.delete_run(run.info.run_id)
    partial = partial_path(tmp_path / "scores" / "LA.opus-12.txt")
    num_trials = len(read_scores(tmp_path / "whole" / "LA.opus-12.txt"))
    # After two batches of four of the last of three score files.
    place = "sls.engine.scoring.partial_scores:PartialWriter.append"
    killed_there = signalled(place, 2 * ceil(num_trials / 4) + 2, signal.SIGKILL)
    process = start_door(*killed_there, "entrypoints.robustness", *words(arguments))
    errors = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, errors
    left = read_partial(partial)
    assert left is not None
    assert len(left.scores) == 8
    assert set(finished_by_condition()) == {"", "noisy"}
    done = call(arguments)
    assert done.exit_code == 0, done.output
    finished = finished_by_condition()
    assert set(finished) == {"", "noisy", "opus-12"}
    # Whole batches of what the killed process had scored are kept.
    assert finished["opus-12"].data.metrics["score/num_kept"] == 8
    for path in (tmp_path / "whole").glob("*.txt"):
        assert (tmp_path / "scores" / path.name).read_bytes() == path.read_bytes()
