"""Training runs with the checkpoints that they kept: named, the newest on a corpus, or of a study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run

from sls.tracking.registry.checkpoints import checkpoints_of, has_weights
from sls.tracking.store import FINISHED, NEWEST_FIRST, find_active_run, find_known_run, find_runs, tagged
from sls.tracking.tags import MAIN_TAG, RECIPE_PARAM, SEED_PARAM, STUDY_TAG


@dataclass(frozen=True)
class TrainingRun:
    """A training run and the checkpoints that it kept."""

    name: str
    """Its recipe; with the start of its id where two of the runs share a recipe."""
    run: Run
    checkpoints: Mapping[int, LoggedModel]
    """By epoch, from 0."""

    @property
    def run_id(self) -> str:
        """Its id in the tracking store."""
        return str(self.run.info.run_id)


def find_training_runs(
    client: MlflowClient, run_ids: Sequence[str], experiment: str, corpus: str
) -> list[TrainingRun]:
    """Finds training runs with their checkpoints.

    Without ids those are the newest finished one of each recipe on the corpus, the oldest first, but for runs that
    kept the weights of no epoch.

    Raises:
        ValueError: an id that the store does not know, a run without checkpoints of epochs, or no finished one.
    """
    named = [_read_named(client, run_id) for run_id in dict.fromkeys(run_ids)]
    found = named or _find_newest(client, experiment, corpus)
    recipes = [item.name for item in found]
    return [
        replace(item, name=f"{item.name} {item.run_id[:8]}") if recipes.count(item.name) > 1 else item
        for item in found
    ]


def name_trainings(client: MlflowClient, study: str) -> list[tuple[str, str]]:
    """Returns what to call each finished training that a run asked for, and the model that it chose.

    `study` is the id of that run, and they are called by their recipe, or `NAME=ID`. Raises ValueError without any.
    """
    name, run_id = study.split("=", 1) if "=" in study else ("", study)
    of_each = (
        find_runs(client, tagged(kind="train", **{link: run_id}), FINISHED) for link in (STUDY_TAG, MAIN_TAG)
    )
    found = {run.info.run_id: run for run in chain.from_iterable(of_each)}
    if not found:
        raise ValueError(
            f"studies: found no finished training of a study {run_id}, expected the id of its run"
        )
    runs = sorted(found.values(), key=lambda run: int(run.info.start_time))
    recipes = [run.data.params[RECIPE_PARAM] for run in runs]
    if name:
        recipes = [f"{name} {recipe}" if len(set(recipes)) > 1 else name for recipe in recipes]
    return [(recipe, f"runs:/{run.info.run_id}") for recipe, run in zip(recipes, runs, strict=True)]


def find_seed(client: MlflowClient, run_id: str) -> str:
    """Returns the seed of a training run; empty where it is not known."""
    run = find_known_run(client, run_id)
    return str(run.data.params.get(SEED_PARAM, "")) if run else ""


def _read(client: MlflowClient, run: Run) -> TrainingRun:
    return TrainingRun(run.data.tags.get("recipe", run.info.run_name), run, checkpoints_of(client, run))


def _read_named(client: MlflowClient, run_id: str) -> TrainingRun:
    run = find_active_run(client, run_id)
    if run is None:
        raise ValueError(f"runs: the tracking store has no run {run_id}; expected ids of training runs")
    training = _read(client, run)
    if not training.checkpoints:
        kind = run.data.tags.get("kind", "unknown")
        raise ValueError(f"runs: {run_id} (kind {kind}) has no checkpoints, expected a training run")
    return training


def _find_newest(client: MlflowClient, experiment: str, corpus: str) -> list[TrainingRun]:
    newest: dict[str, TrainingRun] = {}
    wanted = (tagged(kind="train", corpus=corpus), FINISHED)
    for run in find_runs(client, *wanted, experiments=[experiment], order_by=NEWEST_FIRST):
        recipe = run.data.tags.get("recipe", "")
        if recipe not in newest:
            training = _read(client, run)
            if any(map(has_weights, training.checkpoints.values())):
                newest[recipe] = training
    if not newest:
        place = client.get_experiment(experiment).name
        raise ValueError(
            f"runs: no finished training on {corpus} in the experiment {place}; train first: mlflow run . -e train, "
            "or name trainings of another (-P runs=RUN_ID,...)"
        )
    return list(reversed(newest.values()))
