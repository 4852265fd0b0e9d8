"""Versions of the registered model, and their cards."""

import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.entities import Dataset, DatasetInput, InputTag

from sls.engine.evaluation.calibration import save_calibration
from sls.metrics.calibration import LogisticCalibration
from sls.models.checkpoints import CheckpointInfo, build_countermeasure
from sls.serving.bundle import example_recording
from sls.tracking.active_run import tracked_run
from sls.tracking.registry import versions
from sls.tracking.registry.checkpoints import ModelSource, log_checkpoint, resolve_model
from sls.tracking.registry.lineage import Lineage, read_lineage
from sls.tracking.registry.model_card import MAX_CARD_LENGTH, note_evaluations, write_card
from sls.tracking.registry.stages import find_alias, find_champion, move_stage
from sls.tracking.store import REGISTERED_MODEL_NAME, connect
from tests.tracking.registry.test_stages import make_versions, stages

NUM_SAMPLES = 8_000


@pytest.fixture
def trained(store) -> ModelSource:
    """A checkpoint of a training run on the demo corpus."""
    with tracked_run("train", "train v1", {"recipe": "v1", "corpus": "demo"}) as run:
        data = Dataset(
            "demo-train", "0123", "local", json.dumps({"uri": "x"}), profile=json.dumps({"trials": 48})
        )
        tags = [InputTag("mlflow.data.context", "training")]
        run.client.log_inputs(run.run_id, [DatasetInput(data, tags)])
        model = build_countermeasure("random:tiny", NUM_SAMPLES, 3)
        info = CheckpointInfo(model.encoder, NUM_SAMPLES, epoch=2, recipe="v1", run_id=run.run_id)
        model_id = log_checkpoint(run, model, info, {})
    return resolve_model(connect(), f"models:/{model_id}")


def record_evaluation(
    source: ModelSource,
    track: str,
    eer_percent: float,
    subset: str = "eval",
    corpus: str = "demo",
    not_comparable: str = "",
    precision: str = "fp32",
) -> str:
    with tracked_run("score", f"score v1 {track}", {"model_id": source.model_id}) as scoring:
        pass
    tags = {
        "model_id": source.model_id,
        "track": track,
        "subset": subset,
        "corpus": corpus,
        "score_run_id": scoring.run_id,
        "key_sha256": "0123",
        "precision": precision,
        **({"not_comparable": not_comparable} if not_comparable else {}),
    }
    with tracked_run("evaluate", f"evaluate v1 {track}", tags) as run:
        name = f"{track}/eer_percent"
        run.log_metrics(
            {
                name: eer_percent,
                f"{name}_low": eer_percent - 1,
                f"{name}_high": eer_percent + 1,
                f"{name}_clustered_low": eer_percent - 2,
                f"{name}_clustered_high": eer_percent + 2,
            }
        )
    return run.run_id


def card_of(version: str) -> str:
    return connect().get_model_version(REGISTERED_MODEL_NAME, version).description


def test_model_card_tells_recipe_data_eer_with_intervals_use_and_that_it_is_synthetic(trained) -> None:
    run_id = record_evaluation(trained, "LA", 3.51)
    record_evaluation(trained, "LA", 9.0, subset="progress", not_comparable="subset progress")
    client = connect()
    version = versions.register(client, "1", trained, "staging")
    card = card_of(version.version)
    assert "Recipe v1, epoch 2." in card
    assert f"[train v1](#/experiments/1/runs/{trained.train_run_id})" in card
    assert "Training: demo-train (48 trials)" in card
    assert "| demo | LA | eval | 3.51 | 2.51 to 4.51 | 1.51 to 5.51 | " in card
    assert f"/runs/{run_id})" in card
    assert "| demo | LA | progress | 9.00 |" in card
    assert "Synthetic corpus" in card
    assert "Intended use and limits" in card
    assert "the first 0.50 s" in card
    assert "no calibration" in card
    assert len(card) <= MAX_CARD_LENGTH
    registered = client.get_model_version(REGISTERED_MODEL_NAME, version.version)
    assert registered.run_id == trained.train_run_id
    assert registered.tags == {
        "recipe": "v1",
        "stage": "staging",
        "epoch": "2",
        "run_id": trained.train_run_id,
        "checkpoint_model_id": trained.model_id,
        "corpus": "demo",
        "demo.LA.eer_percent": "3.5100",
        "demo.LA.key_sha256": "0123",
    }


@pytest.mark.slow
def test_versions_are_tagged_by_the_evaluations_that_compare_alone(trained) -> None:
    """Neither later ones that are calibrated, of windows or of some trials, nor those of another corpus, count."""
    client = connect()
    version = versions.register(client, "1", trained, "staging").version
    record_evaluation(trained, "DF", 2.14, corpus="asvspoof")
    for reason in ("calibrated", "windows every 16000 samples", "some of the trials", "subset all"):
        subset = reason.removeprefix("subset ") if reason.startswith("subset") else "eval"
        record_evaluation(trained, "DF", 9.0, subset, "asvspoof", reason)
    record_evaluation(trained, "DF", 46.4, corpus="demo")
    record_evaluation(trained, "DF", 2.2, corpus="asvspoof", precision="bf16")
    record_evaluation(trained, "calls", 7.0, subset="all", corpus="our calls: 2026")
    note_evaluations(client, read_lineage(client, trained.model_id, trained.train_run_id))
    again = versions.register(client, "1", trained, "staging", recipe="v1-again").version
    for number in (version, again):
        tags = client.get_model_version(REGISTERED_MODEL_NAME, number).tags
        assert {name: value for name, value in tags.items() if name.endswith("eer_percent")} == {
            "DF.eer_percent": "2.1400",
            "DF.bf16.eer_percent": "2.2000",
            "demo.DF.eer_percent": "46.4000",
            "our calls_ 2026.calls.eer_percent": "7.0000",
        }
        for row in ("eval | 2.14", "eval, bf16 | 2.20", "all | 9.00"):
            assert f"| asvspoof | DF | {row} |" in card_of(number)


@pytest.mark.slow
def test_image_of_a_version_is_built_from_its_pinned_requirements(trained, tmp_path) -> None:
    version = versions.register(connect(), "1", trained, "staging")
    image = tmp_path / "image"
    command = ["mlflow", "models", "generate-dockerfile", "-m", version.uri, "-d", str(image)]
    subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, check=True)
    steps = (image / "Dockerfile").read_text(encoding="utf-8")
    assert f"FROM python:{platform.python_version()}" in steps
    assert f"pip install mlflow=={mlflow.__version__}" in steps
    assert re.search(r"COPY model_dir (\S+)\nRUN .*_install_pyfunc_deps\('\1'.*env_manager='local'", steps)
    registered = Path(mlflow.artifacts.download_artifacts(version.uri))
    for name in ("MLmodel", "requirements.txt", "constraints.txt", "python_env.yaml"):
        assert (image / "model_dir" / name).read_bytes() == (registered / name).read_bytes()
    *packages, constraints = (registered / "requirements.txt").read_text().splitlines()
    assert constraints == "-c constraints.txt"
    pins = [*packages, *(registered / "constraints.txt").read_text().split()]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    environment = yaml.safe_load((registered / "python_env.yaml").read_text(encoding="utf-8"))
    assert environment["dependencies"] == ["-r requirements.txt"]


def test_evaluation_after_registration_renews_the_card_and_leaves_what_people_wrote(trained) -> None:
    client = connect()
    version = versions.register(client, "1", trained, "staging").version
    assert "Not evaluated yet." in card_of(version)
    client.update_model_version(REGISTERED_MODEL_NAME, version, card_of(version) + "\n\nSeen by A. B.")
    bare, other = (
        client.create_model_version(
            REGISTERED_MODEL_NAME, source="nowhere/model", tags={"checkpoint_model_id": model_id}
        ).version
        for model_id in (trained.model_id, "m-other")
    )
    record_evaluation(trained, "DF", 2.14)
    note_evaluations(client, read_lineage(client, trained.model_id, trained.train_run_id))
    card = card_of(version)
    assert "Not evaluated yet." not in card
    assert "| demo | DF | eval | 2.14 |" in card
    assert card.endswith("Seen by A. B.")
    tags = {number: client.get_model_version(REGISTERED_MODEL_NAME, number).tags for number in (bare, other)}
    assert tags[bare]["demo.DF.eer_percent"] == "2.1400"
    assert tags[other] == {"checkpoint_model_id": "m-other"}
    assert not card_of(bare)
    client.update_model_version(REGISTERED_MODEL_NAME, version, "All my own words.")
    note_evaluations(client, read_lineage(client, trained.model_id, trained.train_run_id))
    assert card_of(version) == "All my own words."


def test_newest_evaluations_are_those_that_have_their_eer_and_did_not_fail(store) -> None:
    client = connect()

    def make_evaluation(
        start_time: int, eer_percent: float | None, status: str | None = "FINISHED", **tags: str
    ) -> str:
        tags = {
            "kind": "evaluate",
            "model_id": "m-1",
            "corpus": "mine",
            "track": "LA",
            "subset": "eval",
            **tags,
        }
        run_id = str(client.create_run("0", start_time, tags).info.run_id)
        if eer_percent is not None:
            client.log_metric(run_id, f"{tags['track']}/eer_percent", eer_percent)
        if status is not None:
            client.set_terminated(run_id, status)
        return run_id

    under_way = make_evaluation(4, 2.0, None)
    make_evaluation(3, 1.0)
    make_evaluation(5, 3.0, "FAILED")
    make_evaluation(5, 3.0, "KILLED")
    make_evaluation(5, None, None)
    make_evaluation(5, 3.0, not_comparable="some of the trials")
    make_evaluation(5, 3.0, not_comparable="subset eval, calibrated")
    make_evaluation(5, 3.0, model_id="m-2")
    make_evaluation(5, 3.0, kind="compare")
    progress = make_evaluation(2, 4.0, subset="progress", not_comparable="subset progress")
    coarse = make_evaluation(1, 5.0, precision="bf16")
    other_track = make_evaluation(6, 6.0, track="DF")
    other_corpus = make_evaluation(7, 7.0, corpus="a copy")
    found = [run.info.run_id for run in read_lineage(client, "m-1", "").newest_evaluations().values()]
    assert found == [other_corpus, other_track, under_way, coarse, progress]
    assert read_lineage(client, "", "") == Lineage("", None, [])


def test_card_is_no_longer_than_a_description_may_be() -> None:
    card = write_card(Lineage(), "v" * MAX_CARD_LENGTH, "2", 4.0, None)
    assert len(card) <= MAX_CARD_LENGTH
    assert "Intended use and limits" in card


HOSTILE = {
    "marker": "<!-- evaluations -->x<!-- /evaluations -->",
    "half a marker": "x<!-- /evaluations -->",
    "length": "s" * 4_700,
    "length that grows": "<" * 4_700,
    "HTML": "<img src=x onerror=alert(1)><script>alert(1)</script>&lt;",
    "Markdown": "[a](javascript:alert(1)) `b` **c** ~~d~~ $e$ |f|\n\n# g\n\n- h",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
def test_card_says_licence_use_and_evaluations_whatever_its_source_is_called(store, source: str) -> None:
    """Of an import whose source may hold the card's own marks, more text than fits, or a page."""
    client = connect()
    client.create_registered_model(REGISTERED_MODEL_NAME)
    tags = {"kind": "import_checkpoint", "source": source, "licence": "MIT & others"}
    origin = client.create_run("0", tags=tags, run_name="import_checkpoint <b>v1</b>")
    evaluated = ModelSource("x", path=Path(), model_id="m-1")
    lineage = Lineage("m-1", origin)
    card = write_card(lineage, "v1", "", 4.0, None)
    client.create_model_version(
        REGISTERED_MODEL_NAME, "nowhere/model", tags={"checkpoint_model_id": "m-1"}, description=card
    )
    assert "Not evaluated yet." in card
    record_evaluation(evaluated, "DF", 2.14)
    note_evaluations(client, read_lineage(client, "m-1", origin.info.run_id))
    for number, eer_percent in enumerate((1.5, 1.25)):
        record_evaluation(evaluated, "LA", eer_percent)
        note_evaluations(client, read_lineage(client, "m-1", origin.info.run_id))
        card = card_of("1")
        assert len(card) <= MAX_CARD_LENGTH, number
        assert "licence MIT &amp; others" in card
        assert "Intended use and limits" in card
        assert ("| LA |" in card and f"{eer_percent:.2f}" in card) or "in the runs of kind evaluate" in card
        assert card.count("<!-- evaluations -->") == card.count("<!-- /evaluations -->") == 1
        bare = re.sub("<!-- /?evaluations -->", "", card)
        assert "<" not in bare
        assert not re.search(r"^# g|^- h|\]\(javascript", bare, flags=re.MULTILINE)


@pytest.mark.slow
def test_card_of_many_evaluations_fits_into_a_description(trained) -> None:
    for index in range(13):
        record_evaluation(trained, f"a-track-with-a-rather-long-name-{index:02d}", index + 0.5)
    card = card_of(versions.register(connect(), "1", trained, "staging").version)
    assert len(card) <= MAX_CARD_LENGTH
    assert "in the runs of kind evaluate" in card
    assert "Intended use and limits" in card


def test_version_that_is_not_there_is_answered_with_those_that_are(store) -> None:
    make_versions(11)
    connect().set_registered_model_alias(REGISTERED_MODEL_NAME, "champion", "2")
    numbers = ", ".join(map(str, range(1, 12)))
    for asked in ("@nobody", "/12"):
        with pytest.raises(
            (ValueError, FileNotFoundError), match=rf"versions {numbers}\b.*aliases champion\b"
        ):
            resolve_model(connect(), f"models:/{REGISTERED_MODEL_NAME}{asked}")


def test_version_with_a_calibration_decides_when_it_is_served(trained, tmp_path) -> None:
    path = tmp_path / "anything.json"
    save_calibration(path, LogisticCalibration(3.0, -1.0, (-5.25, 0.125)))
    version = versions.register(connect(), "1", trained, "staging", calibration=path)
    path.unlink()
    served = mlflow.pyfunc.load_model(version.uri)
    row = served.predict(pd.DataFrame({"audio": [example_recording()]})).iloc[0]
    assert row["llr"] == pytest.approx(3 * row["score"] - 1)
    assert row["decision"] in {"bonafide", "spoof"}
    assert np.isfinite(row["llr_threshold"])
    assert re.search(r"fitted\b.* -5\.25 to 0\.125\b", card_of(version.version))
    # The score door finds the checkpoint in the same bundle.
    assert resolve_model(connect(), version.uri).path.is_file()


def test_file_that_is_no_calibration_registers_nothing(trained, tmp_path) -> None:
    path = tmp_path / "broken.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match="broken.json"):
        versions.register(connect(), "1", trained, "staging", calibration=path)
    assert not connect().search_model_versions(f"name='{REGISTERED_MODEL_NAME}'")


def test_registration_into_production_makes_room_there(trained) -> None:
    make_versions(1)
    move_stage(connect(), "1", "production")
    version = versions.register(connect(), "1", trained, "production", recipe="mine")
    assert stages() == {"1": "archived", version.version: "production"}
    assert find_champion(connect()) == find_alias(connect(), "recipe-mine") == version.version
    assert "Recipe mine, epoch 2." in card_of(version.version)


def test_checkpoint_of_which_nothing_is_known_is_registered_under_no_recipe(trained) -> None:
    client = connect()
    unknown = ModelSource(str(trained.path), path=trained.path)
    version = versions.register(client, "1", unknown, "archived", tags={"licence": "MIT"}).version
    registered = client.get_model_version(REGISTERED_MODEL_NAME, version)
    assert registered.run_id is None
    assert {name: value for name, value in registered.tags.items() if value} == {
        "stage": "archived",
        "licence": "MIT",
    }
    assert client.get_registered_model(REGISTERED_MODEL_NAME).aliases == {}
    assert card_of(version).startswith("Recipe unknown, epoch unknown.\n\nOrigin unknown.\n\n")


def test_bundle_is_whole_in_the_artifact_store(trained, tmp_path) -> None:
    version = versions.register(connect(), "1", trained, "staging")
    directory = Path(mlflow.artifacts.download_artifacts(version.uri, dst_path=str(tmp_path / "elsewhere")))
    assert {"MLmodel", "requirements.txt", "python_env.yaml", "input_example.json", "pyfunc.py"} <= {
        path.name for path in directory.iterdir()
    }
    assert not list(directory.rglob("__pycache__"))
