"""The register door: a version from a run, its stage by command, and the champion by policy."""

import re

import mlflow
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from entrypoints.register import register
from sls.engine.evaluation.calibration import save_calibration
from sls.metrics.calibration import LogisticCalibration
from sls.models.checkpoints import CheckpointInfo, build_countermeasure
from sls.serving.bundle import example_recording
from sls.tracking.active_run import tracked_run
from sls.tracking.registry.calibrations import CALIBRATION_FILE
from sls.tracking.registry.checkpoints import log_checkpoint
from sls.tracking.registry.stages import find_champion
from sls.tracking.store import REGISTERED_MODEL_NAME, connect
from sls.tracking.tags import CHOSEN_EPOCH_TAG

pytestmark = pytest.mark.slow

NUM_SAMPLES = 8_000


def call(*arguments: str) -> Result:
    return CliRunner().invoke(register, list(arguments))


def version_tags(version: str) -> dict[str, str]:
    return connect().get_model_version(REGISTERED_MODEL_NAME, version).tags


@pytest.fixture
def training_run(store) -> str:
    """A training run with two epochs, of which the second was chosen."""
    with tracked_run("train", "train v2", {"recipe": "v2", CHOSEN_EPOCH_TAG: "1"}) as run:
        for epoch in (0, 1):
            model = build_countermeasure("random:tiny", NUM_SAMPLES, epoch)
            log_checkpoint(
                run, model, CheckpointInfo(model.encoder, NUM_SAMPLES, epoch=epoch, recipe="v2"), {}
            )
    return run.run_id


def make_versions(*eer_percent: float) -> None:
    client = connect()
    client.create_registered_model(REGISTERED_MODEL_NAME)
    for value in eer_percent:
        tags = {"stage": "staging", "DF.eer_percent": str(value)}
        client.create_model_version(REGISTERED_MODEL_NAME, source="nowhere/model", tags=tags)


def test_run_becomes_a_version_with_the_calibration_that_another_run_fitted(training_run, tmp_path) -> None:
    save_calibration(tmp_path / CALIBRATION_FILE, LogisticCalibration(2.0, 0.5))
    with tracked_run("evaluate") as run:
        run.log_contents({CALIBRATION_FILE: (tmp_path / CALIBRATION_FILE).read_bytes()})
    result = call("--run_id", training_run, "--calibration", run.run_id)
    assert result.exit_code == 0, result.output
    assert re.search(r"models:/xlsr-sls/1 .*recipe v2, stage staging\b.*calibration", result.output)
    tags = version_tags("1")
    assert (tags["recipe"], tags["stage"], tags["epoch"], tags["run_id"]) == (
        "v2",
        "staging",
        "1",
        training_run,
    )
    served = mlflow.pyfunc.load_model("models:/xlsr-sls@recipe-v2")
    row = served.predict(pd.DataFrame({"audio": [example_recording()]})).iloc[0]
    assert row["llr"] == pytest.approx(2 * row["score"] + 0.5)


def test_any_epoch_can_be_registered_into_a_stage(training_run) -> None:
    result = call("--run_id", training_run, "--epoch", "0", "--stage", "production", "--recipe", "mine")
    assert result.exit_code == 0, result.output
    tags = version_tags("1")
    assert (tags["epoch"], tags["stage"], tags["recipe"]) == ("0", "production", "mine")
    assert find_champion(connect()) == "1"


def test_stage_moves_by_command(store) -> None:
    make_versions(2.0, 3.0)
    assert call("--version", "1", "--stage", "production").exit_code == 0
    result = call("--version", "2", "--stage", "production")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-3:] == [
        "Version 2: staging -> production",
        "Version 1: production -> archived",
        "Champion: version 2",
    ]
    assert version_tags("1")["stage"] == "archived"
    assert find_champion(connect()) == "2"


def test_policy_says_why_and_changes_nothing_unless_applied(store) -> None:
    make_versions(2.5, 1.5)
    said = call("--champion", "DF")
    assert said.exit_code == 0, said.output
    assert re.search(r"version 2 .*lowest .*\bDF, 1\.50 %.*\b2 versions\b.*Now: none\b", said.output)
    assert "Nothing was changed" in said.output
    assert find_champion(connect()) == ""
    assert version_tags("2")["stage"] == "staging"
    applied = call("--champion", "DF", "--apply", "true")
    assert applied.exit_code == 0, applied.output
    assert "Version 2: staging -> production" in applied.output
    assert find_champion(connect()) == "2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--version", "7", "--stage", "production"], "version: found 7, expected .*xlsr-sls"),
        (["--version", "1"], "stage: found nothing, expected .*staging, production, archived"),
        (["--version", "1", "--stage", "live"], "stage: found live"),
        (["--version", "1", "--run_id", "x", "--stage", "production"], r"version: found run_id\b"),
        (["--champion", "DF", "--stage", "production"], r"champion: found stage\b"),
        (
            ["--champion", "PA"],
            r"no version of xlsr-sls .*\bPA\b.*\bDF\b",
        ),
        (["--apply", "true"], "apply: found true .*champion"),
        (["--apply", "yes", "--champion", "DF"], "apply: found 'yes', expected true.*false"),
        (["--run_id", "0123456789abcdef0123456789abcdef", "--stage", "staging"], "no run 0123456789abcdef"),
    ],
)
def test_wrong_request_is_refused_in_one_line_and_changes_nothing(store, arguments, message: str) -> None:
    make_versions(2.0)
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert re.search(message, result.stderr.strip().splitlines()[-1])
    assert version_tags("1")["stage"] == "staging"
    assert find_champion(connect()) == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.json", r"calibration: nowhere\.json: "),
        (
            "0123456789abcdef0123456789abcdef",
            "calibration: .*run 0123456789abcdef0123456789abcdef",
        ),
    ],
)
def test_missing_calibration_is_named(training_run, name: str, message: str) -> None:
    result = call("--run_id", training_run, "--calibration", name)
    assert result.exit_code == 2
    assert re.search(message, result.stderr.strip().splitlines()[-1])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--by", "worst"], "by: found worst without champion"),
        (["--champion", "DF", "--by", "cost"], "by: found 'cost', expected one of eer, act_dcf, worst"),
        (["--champion", "LA,DF"], "champion: found LA,DF, expected one track"),
    ],
)
def test_policy_that_is_none_is_named(store, arguments: list[str], told: str) -> None:
    make_versions(2.0, 3.0)
    result = call(*arguments)
    assert result.exit_code == 2
    assert told in result.stderr
