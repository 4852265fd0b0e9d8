"""All epochs of training runs on all tracks: the chart that shows what each recipe's choice cost."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from sls.tracking.checkpoints import checkpoints_of
from sls.tracking.epoch_evaluation import EpochCheckpoint, EpochEvaluator, EvaluatedEpoch, TrainingRun
from sls.tracking.epochs_figure import EpochPoint, epochs_figure
from sls.tracking.figure_style import to_png
from sls.tracking.pipeline import Pipeline
from sls.tracking.runs import TrackedRun, run_link, scratch_directory
from sls.tracking.trial_lists import track_trials

FIGURE_FILE, TABLE_FILE = "epochs.png", "epochs.tsv"

logger = logging.getLogger(__name__)


def find_training_runs(client: MlflowClient, run_ids: Sequence[str]) -> list[TrainingRun]:
    """Finds training runs with their checkpoints.

    Raises:
        ValueError: no id, an id that the store does not know, or a run without checkpoints of epochs.
    """
    if not run_ids:
        raise ValueError("runs: found nothing, expected ids of training runs, separated by commas")
    runs = [_get_run(client, run_id) for run_id in dict.fromkeys(run_ids)]
    found = [(run, checkpoints_of(client, run)) for run in runs]
    for run, checkpoints in found:
        if not checkpoints:
            raise ValueError(
                f"runs: {run.info.run_id} (kind {run.data.tags.get('kind', 'unknown')}) has no checkpoints of "
                "epochs, expected a training run"
            )
    recipes = [run.data.tags.get("recipe", run.info.run_name) for run, _ in found]
    names = [
        f"{recipe} {run.info.run_id[:8]}" if recipes.count(recipe) > 1 else recipe
        for recipe, (run, _) in zip(recipes, found, strict=True)
    ]
    return [TrainingRun(name, *pair) for name, pair in zip(names, found, strict=True)]


def track_epochs(
    run: TrackedRun, pipeline: Pipeline, trainings: Sequence[TrainingRun], tracks: Sequence[str]
) -> list[EvaluatedEpoch]:
    """Evaluates every epoch of training runs on every track, and draws the EER by epoch.

    What the tracking store already holds is not computed again: an evaluation of the same checkpoint with the
    same key and subset, and a scoring run of the same checkpoint with the same list of trials.

    Args:
        run: the run on which chart, table and metrics `TRACK/eer_percent.RECIPE` (by epoch) are recorded. The
            training runs get them too, as `TRACK/eer_percent_by_epoch`.
        pipeline: how to score and evaluate.
        trainings: from `find_training_runs`.
        tracks: from `sls.tracking.pipeline.find_tracks`.

    Returns:
        One entry for each epoch and track, in the order of runs, epochs and tracks.

    Raises:
        FileNotFoundError: a protocol, a key or a recording is missing.
        ValueError: one of them is malformed, or no epoch can be evaluated.
    """
    corpus = pipeline.corpus
    run.set_tags(
        {
            "corpus": corpus.name,
            "tracks": ", ".join(tracks),
            "train_run_ids": ", ".join(training.run_id for training in trainings),
            "mlflow.note.content": "  \n".join(f"Training: {run_link(item.run)}" for item in trainings),
        }
    )
    is_audio_needed = pipeline.compute.max_failures == 0
    trials = [track_trials(corpus, name, require_audio=is_audio_needed) for name in tracks]
    evaluator = EpochEvaluator(pipeline, trials)
    evaluated: list[EvaluatedEpoch] = []
    for training in trainings:
        for epoch in sorted(training.checkpoints):
            # A checkpoint is fetched once for all tracks, and goes when they are done.
            with scratch_directory() as directory:
                checkpoint = EpochCheckpoint(pipeline.client, training, epoch, directory)
                found = [evaluator.evaluate(checkpoint, item) for item in trials]
            evaluated += found
            rates = {f"{item.track}/eer_percent.{item.recipe}": item.eer_percent for item in found}
            run.log_metrics({name: rate for name, rate in rates.items() if rate is not None}, epoch)
            _chart_beside_losses(pipeline.client, training, found)
    _log_results(run, evaluated, corpus.name)
    return evaluated


def find_newest_trainings(client: MlflowClient, experiment: str) -> list[str]:
    """Returns the ids of an experiment's newest finished training runs, one of each recipe, the oldest first."""
    runs = client.search_runs(
        [experiment],
        "tags.kind = 'train' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time ASC"],
    )
    newest = {run.data.tags.get("recipe", ""): run for run in runs}
    return [run.info.run_id for run in sorted(newest.values(), key=lambda run: run.info.start_time)]


def _chart_beside_losses(
    client: MlflowClient, training: TrainingRun, evaluated: Sequence[EvaluatedEpoch]
) -> None:
    """Records EERs on the training run, so that the UI draws the recipes in one chart; each step once."""
    for item in evaluated:
        name = f"{item.track}/eer_percent_by_epoch"
        if item.eer_percent is None or item.epoch in _steps_of(client, training, name):
            continue
        client.log_metric(training.run_id, name, item.eer_percent, step=item.epoch, model_id=item.model_id)


def _steps_of(client: MlflowClient, training: TrainingRun, name: str) -> set[int]:
    # Runs were read before this call began; only what they had then is asked for.
    if name not in training.run.data.metrics:
        return set()
    return {metric.step for metric in client.get_metric_history(training.run_id, name)}


def _get_run(client: MlflowClient, run_id: str) -> Run:
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        raise ValueError(
            f"runs: the tracking store has no run {run_id}; expected ids of training runs"
        ) from error


def _log_results(run: TrackedRun, evaluated: Sequence[EvaluatedEpoch], corpus: str) -> None:
    points = [
        EpochPoint(item.track, item.recipe, item.epoch, item.eer_percent)
        for item in evaluated
        if item.eer_percent is not None
    ]
    chosen = {item.recipe: item.epoch for item in evaluated if item.is_chosen}
    with scratch_directory() as directory:
        (directory / FIGURE_FILE).write_bytes(to_png(epochs_figure(points, chosen, corpus)))
        _write_table(directory / TABLE_FILE, evaluated)
        run.log_directory(directory)


def _write_table(path: Path, evaluated: Sequence[EvaluatedEpoch]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        names = [item.name for item in fields(EvaluatedEpoch)]
        writer = csv.DictWriter(file, names, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(item) for item in evaluated)
