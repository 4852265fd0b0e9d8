"""Which scores an evaluation takes, when none are named."""

import os
import re
from pathlib import Path

import pytest
from mlflow.entities import LoggedModelOutput

from sls.engine.evaluation.comparison import SeedOf
from sls.tracking.evaluation.score_sources import ScoreSource, find_scores, find_systems
from sls.tracking.registry.calibrations import find_calibration
from sls.tracking.registry.checkpoints import find_model
from sls.tracking.store import connect


def made_scoring(tmp_path: Path, end_time: int, **tags: str) -> str:
    """A finished scoring run of LA; returns its id."""
    client = connect()
    experiment = client.get_experiment_by_name("scorings")
    experiment_id = (
        experiment.experiment_id
        if experiment
        else client.create_experiment("scorings", (tmp_path / "artifacts").as_uri())
    )
    tags = {"kind": "score", "track": "LA", "corpus": "mine", "scoring_key": "1", **tags}
    run_id = str(client.create_run(experiment_id, tags=tags).info.run_id)
    client.log_text(run_id, "LA_1 0.5\n", "scores/LA.txt")
    client.set_terminated(run_id, end_time=end_time)
    return run_id


@pytest.fixture
def checkpoint_id(store: Path) -> str:
    """A checkpoint that only a chart has scored."""
    return str(connect().create_logged_model("0", tags={"epoch": "8", "recipe": "v2"}).model_id)


def test_scores_of_a_chart_are_passed_over_unless_the_model_is_named(
    checkpoint_id: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    made_scoring(tmp_path, 1, recipe="v1", epoch="1")
    wanted = made_scoring(tmp_path, 2, recipe="v1", epoch="2")
    of_chart = {"recipe": "v2", "epoch": "8", "model_id": checkpoint_id, "epochs_run_id": "0" * 32}
    charted = made_scoring(tmp_path, 3, kind="evaluate", **of_chart)
    assert find_scores(connect(), "", "mine", "LA", tmp_path).run_id == wanted
    assert find_scores(connect(), "", "mine", "LA", tmp_path, f"models:/{checkpoint_id}").run_id == charted
    told = [line for line in caplog.messages if line.startswith("evaluating")]
    for line, system in zip(
        told, (rf"v1 epoch 2 \(run {wanted}\)", rf"v2 epoch 8 \(run {charted}\)"), strict=True
    ):
        assert re.search(rf"\bLA: {system}", line)


def test_scores_of_a_model_without_a_recipe_go_by_the_model(
    store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    made_scoring(tmp_path, 1, model="mine.safetensors")
    find_scores(connect(), "", "mine", "LA", tmp_path)
    assert re.search(r"\bLA: mine\.safetensors \(run ", caplog.text)


@pytest.mark.parametrize(
    ("run_id", "tags", "name", "system"),
    [
        ("", {}, "held/LA.txt", "LA"),
        ("1a2b", {"recipe": "v1", "epoch": "2", "model": "m"}, "runs:/1a2b/scores/LA.txt", "v1 epoch 2"),
        ("1a2b", {"recipe": "v1", "model": "m"}, "runs:/1a2b/scores/LA.txt", "v1"),
        ("1a2b", {"epoch": "2", "model": "m"}, "runs:/1a2b/scores/LA.txt", "m"),
    ],
)
def test_scores_are_named_after_what_made_them(
    run_id: str, tags: dict[str, str], name: str, system: str
) -> None:
    source = ScoreSource(Path("held/LA.txt"), run_id, tags)
    assert (source.name, source.system) == (name, system)


@pytest.mark.parametrize(
    ("place", "found"),
    [("/dev/null", "a pipe or a device"), ("pipe", "a pipe or a device"), ("folder", "a directory")],
)
def test_what_is_no_regular_file_is_named(store: Path, tmp_path: Path, place: str, found: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=f"scores: .*{place}: found {found}"):
        find_scores(connect(), str(tmp_path / place), "mine", "LA", tmp_path)
    with pytest.raises(ValueError, match=f"calibration: .*{place}: found {found}"):
        find_calibration(connect(), str(tmp_path / place), tmp_path)
    with pytest.raises(ValueError, match=f"model: .*{place}: found {found}"):
        find_model(connect(), str(tmp_path / place))


def test_scores_of_a_chart_alone_are_refused_with_what_to_name(checkpoint_id: str, tmp_path: Path) -> None:
    made_scoring(tmp_path, 1, recipe="v2", epoch="8", epochs_run_id="0" * 32)
    with pytest.raises(ValueError, match=r"track LA in .* chart of epochs; .*-P model=.*-P scores="):
        find_scores(connect(), "", "mine", "LA", tmp_path)
    with pytest.raises(ValueError, match="track DF .*corpus mine "):
        find_scores(connect(), "", "mine", "DF", tmp_path)
    with pytest.raises(ValueError, match=f"track LA .*corpus mine .*models:/{checkpoint_id} "):
        find_scores(connect(), "", "mine", "LA", tmp_path, f"models:/{checkpoint_id}")


def test_scores_of_another_corpus_are_not_taken(store: Path, tmp_path: Path) -> None:
    """A degraded copy of a corpus has the same trials, and other error rates."""
    wanted = made_scoring(tmp_path, 1)
    other = made_scoring(tmp_path, 2, corpus="noisy", model="m.safetensors")
    assert find_scores(connect(), "", "mine", "LA", tmp_path).run_id == wanted
    assert find_scores(connect(), other, "noisy", "LA", tmp_path).run_id == other
    with pytest.raises(ValueError, match=rf"run {other} .*\bLA .*corpus noisy, expected .*\bmine"):
        find_scores(connect(), other, "mine", "LA", tmp_path)
    with pytest.raises(ValueError, match=r"track LA .*corpus theirs .*corpus noisy\b"):
        find_scores(connect(), "", "theirs", "LA", tmp_path)
    connect().delete_tag(other, "corpus")  # as one logged by hand
    assert find_scores(connect(), other, "mine", "LA", tmp_path).run_id == other
    # A list of one's own, scored by protocol and audio_dir, is named after them.
    listed = made_scoring(tmp_path, 3, corpus="flac", track="trials")
    assert find_scores(connect(), listed, "mine", "LA", tmp_path).run_id == listed


def test_a_model_beside_scores_is_refused(store: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("LA_1 0.5\n")
    with pytest.raises(ValueError, match="model: found m beside scores .*a.txt"):
        find_scores(connect(), str(tmp_path / "a.txt"), "mine", "LA", tmp_path, "m")


def test_a_name_without_scores_is_refused(store: Path, tmp_path: Path) -> None:
    made_scoring(tmp_path, 1)
    with pytest.raises(ValueError, match="scores: found v1=, expected NAME=FILE"):
        find_systems(connect(), "mine", "LA", ["v1=", "v2="], [], tmp_path)


def test_degraded_scores_are_passed_over_unless_their_run_is_named(store: Path, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").touch()
    client, model = connect(), str(tmp_path / "m.safetensors")
    wanted = made_scoring(tmp_path, 1, model=model, recipe="v1")
    degraded = made_scoring(tmp_path, 2, model=model, recipe="v1", condition="opus-16")
    assert find_scores(client, "", "mine", "LA", tmp_path).run_id == wanted
    assert find_scores(client, "", "mine", "LA", tmp_path, model).run_id == wanted
    (system,) = find_systems(client, "mine", "LA", [], [model], tmp_path, least=1).values()
    assert system.run_id == wanted
    named = find_scores(client, degraded, "mine", "LA", tmp_path)
    assert (named.run_id, named.condition) == (degraded, "opus-16")
    assert named.system == "v1 opus-16"


def test_degraded_scores_alone_are_no_scores_of_the_track(store: Path, tmp_path: Path) -> None:
    made_scoring(tmp_path, 1, condition="opus-16")
    with pytest.raises(ValueError, match="no finished scoring run of track LA of corpus mine in"):
        find_scores(connect(), "", "mine", "LA", tmp_path)


def made_training(recipe: str, seed: int, **links: str) -> tuple[str, str]:
    """A finished training run with the checkpoint that it chose; returns the ids of both."""
    client = connect()
    tags = {"kind": "train", "corpus": "mine", "recipe": recipe, "chosen_epoch": "0", **links}
    run_id = str(client.create_run("0", tags=tags).info.run_id)
    client.log_param(run_id, "cfg/seed", seed)
    client.log_param(run_id, "cfg/recipe", recipe)
    model = client.create_logged_model("0", source_run_id=run_id, tags={"epoch": "0", "recipe": recipe})
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
    client.set_terminated(run_id)
    return run_id, str(model.model_id)


@pytest.mark.parametrize("link", ["study", "main_run_id"])
def test_a_study_stands_for_the_scores_of_all_its_seeds(store: Path, tmp_path: Path, link: str) -> None:
    study, scored = "a" * 32, {}
    for recipe, seed in (("v1", 1), ("v1", 2), ("v2", 1)):
        run_id, model_id = made_training(recipe, seed, **{link: study})
        tags = {"recipe": recipe, "epoch": "0", "model_id": model_id, "train_run_id": run_id}
        scored[recipe, seed] = made_scoring(tmp_path, len(scored), **tags)
    found = find_systems(connect(), "mine", "LA", [], [], tmp_path, studies=[study])
    assert {name: (source.run_id, source.seed_of) for name, source in found.items()} == {
        "v1 seed 1": (scored["v1", 1], SeedOf("v1", "1")),
        "v1 seed 2": (scored["v1", 2], SeedOf("v1", "2")),
        "v2": (scored["v2", 1], None),
    }
    folder = tmp_path / "again"
    folder.mkdir()
    # Several of one name are trainings of one recipe, whatever they were called.
    items = [f"mine={scored['v1', seed]}" for seed in (1, 2)]
    found = find_systems(connect(), "mine", "LA", items, [], folder, studies=[])
    assert [source.seed_of for source in found.values()] == [SeedOf("mine", "1"), SeedOf("mine", "2")]


def test_score_files_of_one_name_are_seeds_that_nobody_knows_and_elsewhere_a_mistake(
    store: Path, tmp_path: Path
) -> None:
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text("LA_1 0.5\n")
    items = [f"v1={tmp_path / 'a.txt'}", f"v1={tmp_path / 'b.txt'}", f"v2={tmp_path / 'c.txt'}"]
    found = find_systems(connect(), "mine", "LA", items, [], tmp_path, studies=[])
    assert {name: source.seed_of for name, source in found.items()} == {
        "v1 1": SeedOf("v1"),
        "v1 2": SeedOf("v1"),
        "v2": None,
    }
    folder = tmp_path / "again"
    folder.mkdir()
    with pytest.raises(ValueError, match=r"v1=.*b\.txt is the second .*\bv1"):
        find_systems(connect(), "mine", "LA", items, [], folder)


def test_what_is_no_study_is_named(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"studies: found no finished training of a study {'b' * 32}"):
        find_systems(connect(), "mine", "LA", [], [], tmp_path, studies=["b" * 32])
