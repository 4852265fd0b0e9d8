"""Runs and versions of a checkpoint lead to one another."""

import re

import pytest
from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException

from sls.models.checkpoints import CheckpointInfo, build_countermeasure
from sls.tracking.active_run import tracked_run
from sls.tracking.registry import versions
from sls.tracking.registry.checkpoints import ModelSource, log_checkpoint, resolve_model
from sls.tracking.registry.lineage import MAX_LINKS, link_checkpoint, read_lineage
from sls.tracking.store import connect
from sls.tracking.tags import NOTE_TAG

pytestmark = pytest.mark.slow


@pytest.fixture
def trained(store) -> ModelSource:
    """A checkpoint of a training run."""
    model = build_countermeasure("random:tiny", 8_000, 3)
    with tracked_run("train", "train v1", {"recipe": "v1"}) as run:
        info = CheckpointInfo(model.encoder, 8_000, epoch=2, recipe="v1", run_id=run.run_id)
        model_id = log_checkpoint(run, model, info, {})
    return resolve_model(connect(), f"models:/{model_id}")


def record(kind: str, source: ModelSource, **tags: str) -> str:
    with tracked_run(kind, f"{kind} v1 DF", {"track": "DF", **source.tags(), **tags}) as run:
        run.log_metrics({"DF/eer_percent": 2.14})
    return run.run_id


def note_of(run_id: str) -> str:
    return connect().get_run(run_id).data.tags[NOTE_TAG]


def link_to(run_id: str) -> str:
    return f"](#/experiments/1/runs/{run_id})"


def test_version_training_scores_and_evaluation_lead_to_one_another(trained) -> None:
    client = connect()
    scored = record("score", trained)
    evaluated = record("evaluate", trained, score_run_id=scored, corpus="demo", subset="eval")
    version = versions.register(client, "1", trained, "staging").version
    to_version = f"[xlsr-sls {version}](#/models/xlsr-sls/versions/{version}) (epoch 2)"
    card = client.get_model_version("xlsr-sls", version).description
    for run_id in (trained.train_run_id, scored, evaluated):
        assert link_to(run_id) in card
        assert to_version in note_of(run_id)
    assert link_to(trained.train_run_id) in note_of(scored)
    assert link_to(trained.train_run_id) in note_of(evaluated)
    assert link_to(evaluated) in note_of(scored)
    assert link_to(scored) in note_of(evaluated)


def test_what_people_wrote_stays_and_the_rest_is_renewed(trained) -> None:
    client = connect()
    scored = record("score", trained)
    client.set_tag(scored, NOTE_TAG, "Mind the microphone.")
    versions.register(client, "1", trained, "staging")
    client.set_tag(scored, NOTE_TAG, note_of(scored) + "\n\nSeen by A. B.")
    versions.register(client, "1", trained, "staging", recipe="v1-again")
    note = note_of(scored)
    assert note.startswith("Mind the microphone.")
    assert note.endswith("Seen by A. B.")
    assert note.count("xlsr-sls 1") == note.count("xlsr-sls 2") == 1


def test_other_checkpoints_and_failed_runs_are_not_linked(trained) -> None:
    client = connect()
    scored = record("score", trained)
    foreign = record("score", ModelSource("models:/m-other", path=trained.path, model_id="m-other"))
    failed = record("evaluate", trained, score_run_id=scored)
    client.set_terminated(failed, "FAILED")
    link_checkpoint(client, read_lineage(client, trained.model_id, trained.train_run_id))
    assert link_to(failed) not in note_of(scored)
    assert NOTE_TAG not in client.get_run(foreign).data.tags


def test_description_of_many_evaluations_stays_short_and_names_the_newest(trained) -> None:
    client = connect()
    scored = record("score", trained)
    evaluated = [record("evaluate", trained, score_run_id=scored) for _ in range(MAX_LINKS + 1)]
    link_checkpoint(client, read_lineage(client, trained.model_id, trained.train_run_id))
    assert link_to(evaluated[0]) not in note_of(scored)
    assert all(link_to(run_id) in note_of(scored) for run_id in evaluated[1:])


def test_checkpoint_of_a_run_that_is_gone_is_still_linked(trained) -> None:
    scored = record("score", trained)
    link_checkpoint(connect(), read_lineage(connect(), trained.model_id, "0" * 32))
    evaluated = record("evaluate", trained, score_run_id=scored)
    link_checkpoint(connect(), read_lineage(connect(), trained.model_id, "0" * 32))
    assert link_to(evaluated) in note_of(scored)


def test_deleted_training_run_is_gone_and_does_not_fail_what_follows(trained, caplog) -> None:
    client = connect()
    scored = record("score", trained)
    evaluated = record("evaluate", trained, score_run_id=scored, corpus="demo", subset="eval")
    client.delete_run(trained.train_run_id)
    client.delete_run(scored)
    with tracked_run("evaluate") as run:
        run.log_metrics({"DF/eer_percent": 2.14}, model_id=trained.model_id)
    version = versions.register(client, "1", trained, "staging").version
    card = client.get_model_version("xlsr-sls", version).description
    assert "Training: train v1 (deleted)" in card
    assert link_to(scored) not in card
    assert link_to(trained.train_run_id) not in note_of(evaluated)
    assert f"versions/{version})" in note_of(evaluated)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_description_that_cannot_be_written_is_a_warning(trained, caplog, monkeypatch) -> None:
    client = connect()
    scored = record("score", trained)

    def refuse(run_id: str, key: str, value: str) -> None:
        raise MlflowException("the tag is too long", INVALID_PARAMETER_VALUE)

    monkeypatch.setattr(client, "set_tag", refuse)
    link_checkpoint(client, read_lineage(client, trained.model_id, trained.train_run_id))
    assert NOTE_TAG not in client.get_run(scored).data.tags
    (record_of_it,) = caplog.records
    assert re.search(rf"\b{trained.model_id}\b.*: the tag is too long$", record_of_it.getMessage())


def test_section_of_a_training_whose_last_version_was_deleted_is_emptied(trained) -> None:
    client = connect()
    version = versions.register(client, "1", trained, "staging").version
    client.set_tag(trained.train_run_id, NOTE_TAG, note_of(trained.train_run_id) + "\n\nSeen by A. B.")
    client.delete_model_version("xlsr-sls", version)
    link_checkpoint(client, read_lineage(client, trained.model_id, trained.train_run_id))
    assert "xlsr-sls" not in note_of(trained.train_run_id)
    assert note_of(trained.train_run_id).endswith("Seen by A. B.")


def test_an_import_is_not_called_a_training(trained) -> None:
    client = connect()
    client.set_tag(trained.train_run_id, "kind", "import_checkpoint")
    scored = record("score", trained)
    evaluated = record("evaluate", trained, score_run_id=scored)
    link_checkpoint(client, read_lineage(client, trained.model_id, trained.train_run_id))
    for run_id in (scored, evaluated):
        assert f"Import: [train v1{link_to(trained.train_run_id)}" in note_of(run_id)
        assert "Training" not in note_of(run_id)
