"""What a remote artifact store holds is downloaded where it is needed only, and no download stays behind."""

import hashlib
import json
import tempfile
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner

from entrypoints.register import register as register_door
from sls.engine.training.state import write_state
from sls.files import scratch_directory
from sls.models.checkpoints import CheckpointInfo, build_countermeasure, load_checkpoint
from sls.tracking.active_run import tracked_run
from sls.tracking.evaluation.score_sources import find_scores
from sls.tracking.registry import versions
from sls.tracking.registry.calibrations import CALIBRATION_FILE, find_calibration
from sls.tracking.registry.checkpoints import ModelSource, find_model, log_checkpoint, resolve_model
from sls.tracking.scoring.score_file import fetch_finished
from sls.tracking.store import connect, experiment_id
from sls.tracking.tags import KEY_TAG
from sls.tracking.training.recorder import STATE_DIRECTORY, read_past

pytestmark = pytest.mark.slow


@pytest.fixture
def trained(store) -> ModelSource:
    """A checkpoint of a training run."""
    model = build_countermeasure("random:tiny", 8_000, 3)
    with tracked_run("train", "train v1", {"recipe": "v1", "chosen_epoch": "2"}) as run:
        info = CheckpointInfo(model.encoder, 8_000, epoch=2, recipe="v1", run_id=run.run_id)
        model_id = log_checkpoint(run, model, info, {})
    return resolve_model(connect(), f"models:/{model_id}")


@pytest.fixture
def fetched(trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was downloaded, as from a remote store: into a temporary place where none is given."""
    uris: list[str] = []
    download = mlflow.artifacts.download_artifacts

    def fetch(uri: str, dst_path: str | None = None) -> str:
        uris.append(uri)
        return str(download(uri, dst_path=dst_path or tempfile.mkdtemp()))

    monkeypatch.setattr("sls.tracking.registry.checkpoints.is_local_uri", lambda uri: False)
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", fetch)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    return uris


def assert_nothing_stays(directory: Path) -> None:
    assert [path for path in (directory / "scratch").rglob("*") if path.is_file()] == []


def record_scores(source: ModelSource) -> str:
    with tracked_run(
        "score", "score v1 DF", {"track": "DF", "corpus": "demo", KEY_TAG: "1a2b", **source.tags()}
    ) as run:
        scores = "t0 1\n"
        sidecar = json.dumps({"scores_sha256": hashlib.sha256(scores.encode()).hexdigest()})
        for name, text in (("DF.txt", scores), ("DF.txt.json", sidecar)):
            run.log_contents({name: text.encode()}, "scores")
    return run.run_id


def test_model_whose_scores_are_wanted_is_not_downloaded(trained, fetched, tmp_path) -> None:
    client = connect()
    version = versions.register(client, experiment_id(client), trained, "staging")
    scored = record_scores(trained)
    fetched.clear()
    names = [version.uri, f"models:/{trained.model_id}", f"runs:/{trained.train_run_id}"]
    for number, name in enumerate(names):
        found = find_scores(client, "", "demo", "DF", tmp_path / str(number), name)
        assert found.run_id == scored
    assert fetched == [f"runs:/{scored}/scores"] * len(names)


def test_scores_of_an_epoch_whose_weights_were_not_kept_are_found(trained, fetched, tmp_path) -> None:
    client = connect()
    scored = record_scores(trained)
    client.set_logged_model_tags(trained.model_id, {"weights": "deleted"})
    assert find_scores(client, "", "demo", "DF", tmp_path / "found", trained.uri).run_id == scored
    with pytest.raises(ValueError, match="were not kept"):
        resolve_model(client, trained.uri)


def test_version_is_downloaded_where_the_caller_says(trained, fetched, tmp_path) -> None:
    client = connect()
    uri = versions.register(client, experiment_id(client), trained, "staging").uri
    place = tmp_path / "place"
    assert resolve_model(client, uri, place).path.is_relative_to(place)
    assert find_model(client, uri).location.startswith(("file:", "/"))


def test_fetched_scores_leave_no_second_copy(trained, fetched, tmp_path) -> None:
    client, output = connect(), tmp_path / "found" / "DF.txt"
    record_scores(trained)
    assert fetch_finished(client, experiment_id(client), "1a2b", output)
    assert {path.name for path in output.parent.iterdir()} == {"DF.txt", "DF.txt.json"}
    assert_nothing_stays(tmp_path)


def test_calibration_of_a_run_is_downloaded_where_the_caller_says(store, tmp_path) -> None:
    (tmp_path / CALIBRATION_FILE).write_text("{}")
    with tracked_run("evaluate") as run:
        run.log_contents({CALIBRATION_FILE: (tmp_path / CALIBRATION_FILE).read_bytes()})
    place = tmp_path / "place"
    found = find_calibration(connect(), run.run_id, place)
    assert found is not None
    assert found.path == place / CALIBRATION_FILE


def test_weights_to_go_on_from_go_with_the_state(trained, fetched, tmp_path) -> None:
    loaded = load_checkpoint(trained.path)
    with tracked_run("train", "train v1", {"recipe": "v1"}) as run:
        log_checkpoint(run, loaded.model, loaded.info, {})
        (tmp_path / STATE_DIRECTORY).mkdir()
        write_state(tmp_path / STATE_DIRECTORY, {"progress": {"epoch": 3}})
        run.keep_state(tmp_path / STATE_DIRECTORY, STATE_DIRECTORY, 3, 0)
    with scratch_directory() as directory:
        past = read_past(connect(), run.run_id, "val/loss", directory)
        assert past.checkpoint.is_file()
    assert_nothing_stays(tmp_path)


def test_registering_leaves_no_checkpoint_behind(trained, fetched, tmp_path) -> None:
    result = CliRunner().invoke(register_door, ["--run_id", trained.train_run_id])
    assert result.exit_code == 0, result.output
    assert fetched == [f"models:/{trained.model_id}"]
    assert_nothing_stays(tmp_path)
