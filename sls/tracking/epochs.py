"""All epochs of training runs on all tracks: the chart that shows what each recipe's choice cost."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run
from mlflow.exceptions import MlflowException

from sls.tracking.checkpoints import CHOSEN_EPOCH_TAG, checkpoints_of, epoch_name, resolve_model
from sls.tracking.evaluation import EvaluationRequest
from sls.tracking.figure_style import to_png
from sls.tracking.figures import EpochPoint, epochs_figure
from sls.tracking.pipeline import Pipeline
from sls.tracking.runs import TrackedRun, one_line, run_link, scratch_directory
from sls.tracking.scoring import TrialList, track_trials

FIGURE_FILE, TABLE_FILE = "epochs.png", "epochs.tsv"

logger = logging.getLogger(__name__)


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

    @property
    def chosen_epoch(self) -> int | None:
        """The epoch that the recipe chose; None for a run that did not come to its end."""
        tag = self.run.data.tags.get(CHOSEN_EPOCH_TAG)
        return None if tag is None else int(tag)


@dataclass(frozen=True)
class EvaluatedEpoch:
    """One epoch's checkpoint on one track."""

    recipe: str
    """As `TrainingRun.name`."""
    epoch: int
    track: str
    is_chosen: bool
    train_run_id: str
    model_id: str
    eer_percent: float | None = None
    """None where `note` says why there is none."""
    evaluate_run_id: str = ""
    is_new: bool = False
    """Evaluated by this call; otherwise found in the tracking store."""
    note: str = ""

    @property
    def title(self) -> str:
        """Such as `v1 epoch 3 on LA`."""
        return f"{self.recipe} epoch {self.epoch} on {self.track}"


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
        run: the run on which chart, table and metrics `TRACK/eer_percent.RECIPE` (by epoch) are recorded.
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
    evaluator = _Evaluator(pipeline, trials)
    evaluated: list[EvaluatedEpoch] = []
    for training in trainings:
        for epoch in sorted(training.checkpoints):
            for item in trials:
                found = evaluator.evaluate(training, epoch, item)
                evaluated.append(found)
                if found.eer_percent is not None:
                    metric = f"{found.track}/eer_percent.{found.recipe}"
                    run.log_metrics({metric: found.eer_percent}, epoch)
    _log_results(run, evaluated, corpus.name)
    return evaluated


class _Evaluator:
    """Evaluates checkpoints on tracks, unless the tracking store knows the answer."""

    def __init__(self, pipeline: Pipeline, trials: Sequence[TrialList]) -> None:
        self.pipeline = pipeline
        self.key_digests = {
            item.name: pipeline.corpus.track(item.name).key(pipeline.corpus.data_root).digest
            for item in trials
        }

    def evaluate(self, training: TrainingRun, epoch: int, trials: TrialList) -> EvaluatedEpoch:
        """Returns the EER of an epoch on a track, from the store or anew."""
        model_id = str(training.checkpoints[epoch].model_id)
        found = EvaluatedEpoch(
            recipe=training.name,
            epoch=epoch,
            track=trials.name,
            is_chosen=epoch == training.chosen_epoch,
            train_run_id=training.run_id,
            model_id=model_id,
        )
        known = self._find_evaluation(model_id, trials.name)
        if known is None:
            return self._evaluate_anew(found, trials)
        logger.info("%s: known from run %s", found.title, known.info.run_id)
        eer_percent = known.data.metrics[f"{trials.name}/eer_percent"]
        return replace(found, eer_percent=eer_percent, evaluate_run_id=known.info.run_id)

    def _evaluate_anew(self, found: EvaluatedEpoch, trials: TrialList) -> EvaluatedEpoch:
        # No intervals: the chart has none, and every epoch would cost the resampling. The scores are kept, and
        # `-e evaluate` gives them for any of these numbers.
        request = EvaluationRequest(trials.name, num_resamples=0)
        name = f"{found.recipe} epoch {found.epoch}"
        score_run_id = self._find_scoring(found.model_id, trials)
        if score_run_id is None:
            uri = f"runs:/{found.train_run_id}/{epoch_name(found.epoch)}"
            score_run_id = self.pipeline.score(resolve_model(self.pipeline.client, uri), trials, name)
        try:
            tracked = self.pipeline.evaluate(score_run_id, request, name)
        except ValueError as error:
            # An epoch that collapsed, whose scores are all alike, must not cost the chart of the others.
            logger.warning("%s: not evaluated: %s", found.title, error)
            return replace(found, note=one_line(error), is_new=True)
        eer_percent = tracked.evaluation.metrics()["eer_percent"]
        return replace(found, eer_percent=eer_percent, evaluate_run_id=tracked.run_id, is_new=True)

    def _find_evaluation(self, model_id: str, track: str) -> Run | None:
        wanted = {
            "track": track,
            "corpus": self.pipeline.corpus.name,
            "subset": self.pipeline.corpus.track(track).default_subset,
            "key_sha256": self.key_digests[track],
        }
        for run in self._finished_runs("evaluate", model_id, wanted):
            # An evaluation of some of the trials, which allow_partial permits, is another number.
            if run.data.metrics.get(f"{track}/coverage_percent", 100) == 100:
                return run
        return None

    def _find_scoring(self, model_id: str, trials: TrialList) -> str | None:
        digest = trials.protocol.digest if trials.protocol else ""
        wanted = {"track": trials.name, "corpus": trials.corpus, "protocol_sha256": digest}
        runs = self._finished_runs("score", model_id, wanted)
        return runs[0].info.run_id if runs else None

    def _finished_runs(self, kind: str, model_id: str, tags: Mapping[str, str]) -> list[Run]:
        """Returns a checkpoint's finished runs that have these tags, the newest first."""
        experiments = [item.experiment_id for item in self.pipeline.client.search_experiments()]
        runs = self.pipeline.client.search_runs(
            experiments,
            f"tags.kind = '{kind}' and tags.model_id = '{model_id}' and attributes.status = 'FINISHED'",
            order_by=["attributes.end_time DESC"],
        )
        return [run for run in runs if tags.items() <= run.data.tags.items()]


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
