"""Registering and moving are killed after calls to the store: the state is the old one or the new one."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Registry
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as TrackingStore

from sls.engine.evaluation.calibration import save_calibration
from sls.metrics.calibration import LogisticCalibration
from sls.models.checkpoints import CheckpointInfo, build_countermeasure
from sls.tracking.active_run import tracked_run
from sls.tracking.registry import versions
from sls.tracking.registry.checkpoints import ModelSource, log_checkpoint, resolve_model
from sls.tracking.registry.stages import (
    appoint_champion,
    find_alias,
    find_champion,
    in_production,
    move_stage,
    point_alias,
)
from sls.tracking.store import connect, find_versions

pytestmark = pytest.mark.slow

WRITERS = {
    LocalArtifactRepository: ("log_artifact", "log_artifacts"),
    Registry: (
        *("create_registered_model", "create_model_version", "update_model_version"),
        *("set_model_version_tag", "set_registered_model_alias", "delete_registered_model_alias"),
    ),
    TrackingStore: (
        *("create_logged_model", "finalize_logged_model", "set_logged_model_tags", "log_outputs"),
        *("set_tag", "log_batch"),
    ),
}


class Killed(BaseException):
    """Comes where a signal would end the process."""


@contextmanager
def killed_after(num_calls: int) -> Iterator[None]:
    """Lets so many calls that write come through; the process does not live to hear of the last one."""
    left = num_calls

    def counted(call: Callable) -> Callable:
        def count(*args: object, **kwargs: object) -> object:
            nonlocal left
            if not left:
                raise Killed
            left -= 1
            result = call(*args, **kwargs)
            if not left:
                raise Killed
            return result

        return count

    with pytest.MonkeyPatch.context() as patch:
        for place, names in WRITERS.items():
            for name in names:
                patch.setattr(place, name, counted(getattr(place, name)))
        yield


@pytest.fixture
def use_copy(store, tmp_path, monkeypatch) -> Callable[[], MlflowClient]:
    """Makes a copy of the store as it is, in place of the last one, and uses that: MLflow opens it once."""
    path = tmp_path / "copy.db"

    def use() -> MlflowClient:
        with closing(sqlite3.connect(store)) as source, closing(sqlite3.connect(path)) as copy:
            source.backup(copy)
        mlflow.set_tracking_uri(None)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        return connect()

    return use


def kill_after_calls(
    use_copy: Callable[[], MlflowClient],
    work: Callable[[MlflowClient], object],
    read: Callable[[MlflowClient], object],
    check: Callable[[MlflowClient], None] = lambda client: None,
    first: int = 1,
    every: int = 1,
) -> None:
    """Kills some work after its calls, and does it again; both times the state must be a right one.

    Args:
        use_copy: Gives a fresh store.
        work: What is killed.
        read: Returns the state that must be as before the work or as after it.
        check: Checks what must hold once the work was done again.
        first: The call after which it is killed first, and
        every: After how many more each time, where each of them takes long.
    """
    old = read(use_copy())
    client = use_copy()
    work(client)
    new = read(client)
    assert old != new
    for num_calls in range(first, 100, every):
        client = use_copy()
        try:
            with killed_after(num_calls):
                work(client)
        except Killed:
            assert read(connect()) in (old, new), num_calls
            work(connect())
            assert read(connect()) == new, num_calls
            check(connect())
        else:
            assert num_calls > first  # the work was killed at all
            return
    raise AssertionError("it never came to its end")


@pytest.fixture
def trained(store, monkeypatch) -> ModelSource:
    """A checkpoint; version 1, of another one, is in production. What is served is a file, to be quick."""

    def save(path: Path, checkpoint: Path, calibration: Path | None = None) -> None:
        path.mkdir()
        shutil.copyfile(checkpoint, path / checkpoint.name)

    monkeypatch.setattr(versions, "save_served_model", save)
    found = []
    for seed in (0, 1):
        with tracked_run("train", "train v1", {"recipe": "v1", "corpus": "asvspoof"}) as run:
            model = build_countermeasure("random:tiny", 8_000, seed)
            info = CheckpointInfo(model.encoder, 8_000, epoch=seed, recipe="v1", run_id=run.run_id)
            model_id = log_checkpoint(run, model, info, {})
        found.append(resolve_model(connect(), f"models:/{model_id}"))
    versions.register(connect(), "1", found[0], "production")
    return found[1]


def read_names(client: MlflowClient) -> tuple[list[str], str, str]:
    """What a person goes by: the version in production, the champion, and that of the recipe."""
    return in_production(client), find_champion(client), find_alias(client, "recipe-v1")


def check_is_whole(client: MlflowClient) -> None:
    found = find_versions(client)
    assert sorted(str(item.version) for item in found) == ["1", "2"]
    assert all(item.description and item.tags["stage"] for item in found)
    models = client.search_logged_models(["1"], "name = 'served'")
    assert [model.status for model in models] == ["READY"] * 2
    assert {f"models:/{model.model_id}" for model in models} == {item.source for item in found}
    for item in found:
        (file,) = Path(mlflow.artifacts.download_artifacts(item.source)).iterdir()
        assert file.stat().st_size


@pytest.mark.parametrize("stage", ["staging", "production", "archived"])
def test_killed_registering_leaves_the_old_names_or_the_new_ones(use_copy, trained, stage: str) -> None:
    def read(client: MlflowClient) -> tuple[str, ...]:
        # The recipe's name moves before production does: each of the two is the old or the new one.
        production, champion, recipe = read_names(client)
        assert production == [champion]
        return (recipe,)

    def work(client: MlflowClient) -> None:
        version = versions.register(client, "1", trained, stage)
        assert version.version == "2"
        assert find_champion(client) == ("2" if stage == "production" else "1")

    first = ["staging", "production", "archived"].index(stage) + 1
    kill_after_calls(use_copy, work, read, check_is_whole, first, every=3)


def test_killed_registering_of_an_experiment_is_completed(use_copy, trained) -> None:
    """As `main` does it: a version in staging, then the champion by policy."""
    move_stage(connect(), "1", "staging")

    def work(client: MlflowClient) -> None:
        appoint_champion(client, versions.register(client, "1", trained, "staging").version)

    def read(client: MlflowClient) -> str:
        return find_champion(client)

    kill_after_calls(use_copy, work, read, check_is_whole, every=3)


def test_killed_import_is_completed_by_another_run(use_copy, trained) -> None:
    def work(client: MlflowClient) -> None:
        with tracked_run("import_checkpoint") as run:
            origin = {"source": "a friend", "licence": "MIT"}
            versions.track_import(run, str(trained.path), "theirs", "staging", xlsr="", **origin)

    def check(client: MlflowClient) -> None:
        check_is_whole(client)
        (model,) = client.search_logged_models(["1"], "tags.source = 'a friend'")
        assert model.status == "READY"
        (version,) = [item for item in find_versions(client) if item.tags["recipe"] == "theirs"]
        assert version.tags["checkpoint_model_id"] == model.model_id
        made_by = client.get_run(model.source_run_id)
        assert [output.model_id for output in made_by.outputs.model_outputs] == [model.model_id]
        assert "licence MIT" in version.description

    kill_after_calls(use_copy, work, lambda client: find_alias(client, "recipe-theirs"), check, every=4)


@pytest.mark.parametrize(("version", "stage"), [("2", "production"), ("1", "staging"), ("1", "archived")])
def test_killed_move_leaves_the_old_stage_or_the_new_one(use_copy, trained, version: str, stage: str) -> None:
    versions.register(connect(), "1", trained, "staging")

    def read(client: MlflowClient) -> tuple[list[str], str]:
        return in_production(client), find_champion(client)

    def work(client: MlflowClient) -> None:
        move_stage(client, version, stage)

    def check(client: MlflowClient) -> None:
        tagged = {str(item.version): item.tags["stage"] for item in find_versions(client)}
        other = {"production": "archived", "staging": "staging", "archived": "staging"}[stage]
        assert tagged == {version: stage, {"1": "2", "2": "1"}[version]: other}

    kill_after_calls(use_copy, work, read, check)


def test_move_into_an_empty_production_is_of_the_old_state_or_the_new_one(use_copy, trained) -> None:
    versions.register(connect(), "1", trained, "staging")
    move_stage(connect(), "1", "archived")
    point_alias(connect(), "champion", "1")
    kill_after_calls(
        use_copy,
        lambda client: move_stage(client, "2", "production"),
        lambda client: (in_production(client), find_champion(client)),
    )


def test_same_registration_done_again_finds_its_version(trained, tmp_path) -> None:
    client = connect()
    first = versions.register(client, "1", trained, "staging")
    assert versions.register(client, "1", trained, "staging") == first
    assert versions.register(client, "1", trained, "production").version == first.version
    assert in_production(client) == [first.version]
    # Production is not left because somebody registers the same into staging.
    again = versions.register(client, "1", trained, "staging")
    assert again.version != first.version
    assert in_production(client) == [first.version]
    named = versions.register(client, "1", trained, "staging", recipe="another")
    sources = {item.source for item in find_versions(client)}
    assert len(sources) == 2  # that of version 1, and the one bundle of all the others
    assert named.version == "4"
    save_calibration(tmp_path / "calibration.json", LogisticCalibration(2.0, 0.5))
    decides = versions.register(client, "1", trained, "staging", calibration=tmp_path / "calibration.json")
    assert decides.version == "5"
    assert client.get_model_version("xlsr-sls", "5").source not in sources
