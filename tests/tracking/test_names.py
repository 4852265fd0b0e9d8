"""Names under which results are recorded: MLflow's rules hold before the work, and what passes is taken."""

from pathlib import Path

import pytest
from mlflow.entities import Metric, RunTag

from sls.config import MAX_NAME_LENGTH, check_name
from sls.data.corpora.corpus import Corpus
from sls.tracking.names import LONGEST_FIGURE, check_system, check_tracks, check_transfers
from sls.tracking.store import REGISTERED_MODEL_NAME, connect
from sls.tracking.tags import EER_ENDING, EVALUATED_BY, KEY_ENDING, evaluated_place

TAKEN = ["LA", "In-the-Wild", "our calls: 2026", "Gespräche", "a.b", "a/b", "x" * 100]
REFUSED = ["a$b", "a,b", "(a)", "a\nb", "a|b", "😀", "", "..", "a/../b", "/a", "a//b", "./a", "x" * 240]


def corpus_with(track: str, name: str = "mine") -> Corpus:
    return Corpus(name, Path(), dict.fromkeys([track]))  # type: ignore[arg-type]  # names alone are looked at


@pytest.mark.parametrize("track", REFUSED)
def test_track_that_mlflow_refuses_is_refused(track: str) -> None:
    with pytest.raises(ValueError, match=r"^tracks: found the track '"):
        check_tracks(corpus_with(track))


@pytest.mark.parametrize("corpus", ["y" * 240, "a/../b", "../b"])
def test_corpus_under_whose_name_nothing_can_be_recorded_is_refused(corpus: str) -> None:
    with pytest.raises(ValueError, match=r"^tracks: .* of corpus '"):
        check_tracks(corpus_with("LA", corpus))


@pytest.mark.parametrize("track", TAKEN)
def test_what_passes_is_taken_by_the_store(store, track: str) -> None:
    corpus, recipe = "Kunden & Partner", "x" * MAX_NAME_LENGTH
    check_tracks(corpus_with(track, corpus))
    check_name("recipe", recipe)
    check_system(recipe, "systems")
    client = connect()
    run_id = client.create_run("0").info.run_id
    place = evaluated_place(corpus, track, "bf16")
    names = [f"{track}/{LONGEST_FIGURE}.{recipe}", f"{place}/{LONGEST_FIGURE}"]
    metrics = [Metric(name, 1.0, 0, 0) for name in names]
    client.log_batch(run_id, metrics=metrics, tags=[RunTag(EVALUATED_BY + place, "x")])
    client.create_registered_model(REGISTERED_MODEL_NAME)
    tags = {place + EER_ENDING: "1", place + KEY_ENDING: "x", "recipe": recipe}
    client.create_model_version(REGISTERED_MODEL_NAME, "nowhere/model", tags=tags)
    client.set_registered_model_alias(REGISTERED_MODEL_NAME, f"recipe-{recipe}", "1")


@pytest.mark.parametrize("system", ["a$b", "my run (2)", "x" * (MAX_NAME_LENGTH + 1)])
def test_system_that_cannot_be_recorded_is_refused(system: str) -> None:
    with pytest.raises(ValueError, match=r"^runs: found the name '"):
        check_system(system, "runs")


@pytest.mark.parametrize("recipe", ["x" * (MAX_NAME_LENGTH + 1), "a b", ""])
def test_recipe_that_is_no_alias_is_refused(recipe: str) -> None:
    with pytest.raises(ValueError, match="^recipe: found "):
        check_name("recipe", recipe)


def test_names_under_which_transfers_cannot_be_recorded_are_refused() -> None:
    check_transfers(["dev", "In-the-Wild"], ["system"])
    with pytest.raises(ValueError, match=r"^track: found the name 'x+"):
        check_transfers(["dev", "x" * 100], ["system"])
