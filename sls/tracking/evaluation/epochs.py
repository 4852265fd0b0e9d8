"""All epochs of training runs on all tracks: the chart that shows what each recipe's choice cost."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run

from sls.data.loading.trial_lists import track_trials
from sls.engine.scoring.settings import settings_of
from sls.files import scratch_directory
from sls.reports.epochs_figure import EpochPoint, epochs_figure
from sls.reports.figure_style import to_png
from sls.tracking.evaluation.epoch_evaluation import (
    EpochCheckpoint,
    EpochEvaluator,
    EvaluatedEpoch,
    TrainingRun,
)
from sls.tracking.evaluation.pipeline import Pipeline
from sls.tracking.registry.checkpoints import checkpoints_of, has_weights
from sls.tracking.run import TrackedRun, run_link
from sls.tracking.store import FINISHED, find_active_run, find_runs, tagged
from sls.tracking.tags import NOTE_TAG

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
    same key and subset, and a scoring run of the same checkpoint with the same list of trials, both with the same
    settings.

    Args:
        run: The run on which chart, table and metrics `TRACK/eer_percent.RECIPE` (by epoch) are recorded. The
            training runs of the same corpus get them too, as `TRACK/eer_percent_by_epoch`, unless windows of long
            recordings are scored.
        pipeline: How to score and evaluate.
        trainings: From `find_training_runs`.
        tracks: From `sls.tracking.evaluation.pipeline.find_tracks`.

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
            **settings_of(pipeline.compute, pipeline.scoring),
            "train_run_ids": ", ".join(training.run_id for training in trainings),
            NOTE_TAG: "  \n".join(f"Training: {run_link(item.run)}" for item in trainings),
        }
    )
    is_audio_needed = pipeline.compute.max_failures == 0
    trials = [track_trials(corpus, name, require_audio=is_audio_needed) for name in tracks]
    evaluator = EpochEvaluator(pipeline, trials)
    num_epochs = sum(len(training.checkpoints) for training in trainings)
    logger.info("evaluating %d epochs on %d tracks", num_epochs, len(tracks))
    evaluated = [item for training in trainings for item in _evaluate_training(run, evaluator, training)]
    _log_results(run, evaluated, corpus.name)
    return evaluated


def _evaluate_training(
    run: TrackedRun, evaluator: EpochEvaluator, training: TrainingRun
) -> Iterator[EvaluatedEpoch]:
    """Evaluates every epoch of a training run on every track, and records what comes of it."""
    pipeline = evaluator.pipeline
    is_charted = _is_of_corpus(training, pipeline.corpus.name) and not pipeline.scoring.window_hop
    for epoch in sorted(training.checkpoints):
        # A checkpoint is fetched once for all tracks, and goes when they are done.
        with scratch_directory() as directory:
            checkpoint = EpochCheckpoint(pipeline.client, training, epoch, directory)
            found = [evaluator.evaluate(checkpoint, item) for item in evaluator.trials]
        rates = {f"{item.track}/eer_percent.{item.recipe}": item.eer_percent for item in found}
        run.log_metrics({name: rate for name, rate in rates.items() if rate is not None}, epoch)
        if is_charted:
            _chart_beside_losses(pipeline.client, training, found)
        yield from found


def find_newest_trainings(client: MlflowClient, experiment: str, corpus: str) -> list[str]:
    """Returns the ids of the newest finished training runs on a corpus, one of each recipe, the oldest first.

    Runs that kept the weights of no epoch are passed over.

    Raises:
        ValueError: there is none.
    """
    newest: dict[str, Run] = {}
    of_corpus = tagged(kind="train", corpus=corpus)
    for run in find_runs(
        client, of_corpus, FINISHED, experiments=[experiment], order_by="attributes.start_time DESC"
    ):
        recipe = run.data.tags.get("recipe", "")
        if recipe not in newest and any(map(has_weights, checkpoints_of(client, run).values())):
            newest[recipe] = run
    if not newest:
        place = client.get_experiment(experiment).name
        raise ValueError(
            f"runs: no finished training on {corpus} in the experiment {place}; train first: mlflow run . -e train, "
            "or name trainings of another (-P runs=RUN_ID,...)"
        )
    return [run.info.run_id for run in reversed(newest.values())]


def _is_of_corpus(training: TrainingRun, corpus: str) -> bool:
    own = training.run.data.tags.get("corpus", "")
    if own != corpus:
        logger.info(
            "%s was trained on %s: its run gets no chart of the EERs on %s", training.name, own or "?", corpus
        )
    return own == corpus


def _chart_beside_losses(
    client: MlflowClient, training: TrainingRun, evaluated: Sequence[EvaluatedEpoch]
) -> None:
    """Records EERs on the training run, so that the UI draws the recipes in one chart.

    A step whose newest value is another one, by a key since corrected, gets the new one too.
    """
    for item in evaluated:
        name = f"{item.track}/eer_percent_by_epoch"
        if item.eer_percent is None or _newest_value(client, training, name, item.epoch) == item.eer_percent:
            continue
        client.log_metric(training.run_id, name, item.eer_percent, step=item.epoch, model_id=item.model_id)


def _newest_value(client: MlflowClient, training: TrainingRun, name: str, step: int) -> float | None:
    # Runs were read before this call began; only what they had then is asked for.
    if name not in training.run.data.metrics:
        return None
    points = [point for point in client.get_metric_history(training.run_id, name) if point.step == step]
    return max(points, key=lambda point: int(point.timestamp)).value if points else None


def _get_run(client: MlflowClient, run_id: str) -> Run:
    run = find_active_run(client, run_id)
    if run is None:
        raise ValueError(f"runs: the tracking store has no run {run_id}; expected ids of training runs")
    return run


def _log_results(run: TrackedRun, evaluated: Sequence[EvaluatedEpoch], corpus: str) -> None:
    points = [
        EpochPoint(item.track, item.recipe, item.epoch, item.eer_percent)
        for item in evaluated
        if item.eer_percent is not None
    ]
    chosen = {item.recipe: item.epoch for item in evaluated if item.is_chosen}
    with scratch_directory() as directory:
        (directory / FIGURE_FILE).write_bytes(to_png(epochs_figure(points, chosen, corpus)))
        pd.DataFrame(evaluated).to_csv(directory / TABLE_FILE, sep="\t", index=False, lineterminator="\n")
        run.log_directory(directory)
