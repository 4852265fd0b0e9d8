"""One epoch's checkpoint on one track: known from the tracking store, or scored and evaluated."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run

from sls.data.loading.trial_lists import TrialList
from sls.engine.scoring.settings import EARLIER_SETTINGS, settings_of
from sls.tracking.evaluation.evaluation_run import EvaluationRequest
from sls.tracking.evaluation.pipeline import Pipeline
from sls.tracking.registry.checkpoints import ModelSource, epoch_name, has_weights, resolve_model
from sls.tracking.run import one_line
from sls.tracking.store import FINISHED, find_runs, tagged
from sls.tracking.tags import CHOSEN_EPOCH_TAG

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


@dataclass(frozen=True)
class EpochCheckpoint:
    """One epoch's checkpoint, which is fetched when a track has to be scored."""

    client: MlflowClient
    training: TrainingRun
    epoch: int
    directory: Path
    """Where it is downloaded, if it must be."""

    @cached_property
    def source(self) -> ModelSource:
        """The checkpoint file."""
        uri = f"runs:/{self.training.run_id}/{epoch_name(self.epoch)}"
        return resolve_model(self.client, uri, self.directory)


class EpochEvaluator:
    """Evaluates checkpoints on tracks, unless the tracking store knows the answer."""

    def __init__(self, pipeline: Pipeline, trials: Sequence[TrialList]) -> None:
        self.pipeline, self.trials = pipeline, trials
        self.key_digests = {
            item.name: pipeline.corpus.track(item.name).key(pipeline.corpus.data_root).digest
            for item in trials
        }

    def evaluate(self, checkpoint: EpochCheckpoint, trials: TrialList) -> EvaluatedEpoch:
        """Returns the EER of an epoch on a track, from the store or anew."""
        training, epoch = checkpoint.training, checkpoint.epoch
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
            return self._evaluate_anew(found, checkpoint, trials)
        logger.info("%s: known from run %s", found.title, known.info.run_id)
        eer_percent = known.data.metrics[f"{trials.name}/eer_percent"]
        return replace(found, eer_percent=eer_percent, evaluate_run_id=known.info.run_id)

    def _evaluate_anew(
        self, found: EvaluatedEpoch, checkpoint: EpochCheckpoint, trials: TrialList
    ) -> EvaluatedEpoch:
        # No figures: the chart shows none, and they take longer than all else. The scores are kept, and
        # `-e evaluate` draws them for any of these numbers.
        request = EvaluationRequest(trials.name, is_illustrated=False)
        name = f"{found.recipe} epoch {found.epoch}"
        score_run_id = self._find_scoring(found.model_id, trials)
        if score_run_id is None:
            if not has_weights(checkpoint.training.checkpoints[found.epoch]):
                logger.warning("%s: not evaluated: its weights were not kept", found.title)
                return replace(found, note="its weights were not kept")
            score_run_id = self.pipeline.score(checkpoint.source, trials, name)
        try:
            run_id, evaluation = self.pipeline.evaluate(score_run_id, request, name)
        except ValueError as error:
            # An epoch that collapsed, whose scores are all alike, must not cost the chart of the others.
            logger.warning("%s: not evaluated: %s", found.title, error)
            return replace(found, note=one_line(error), is_new=True)
        eer_percent = evaluation.metrics()["eer_percent"]
        logger.info("%s: EER %.2f %%", found.title, eer_percent)
        return replace(found, eer_percent=eer_percent, evaluate_run_id=run_id, is_new=True)

    def _find_evaluation(self, model_id: str, track: str) -> Run | None:
        wanted = {
            "track": track,
            "corpus": self.pipeline.corpus.name,
            "subset": self.pipeline.corpus.track(track).default_subset,
            "key_sha256": self.key_digests[track],
        }
        for run in self._finished_runs("evaluate", model_id, wanted):
            # An evaluation of some of the trials, which allow_partial permits, is another number.
            is_whole = run.data.metrics.get(f"{track}/coverage_percent", 100) == 100
            if is_whole and "calibration" not in run.data.tags:
                return run
        return None

    def _find_scoring(self, model_id: str, trials: TrialList) -> str | None:
        digest = trials.protocol.digest if trials.protocol else ""
        wanted = {"track": trials.name, "corpus": trials.corpus, "protocol_sha256": digest}
        runs = self._finished_runs("score", model_id, wanted)
        return runs[0].info.run_id if runs else None

    def _finished_runs(self, kind: str, model_id: str, tags: Mapping[str, str]) -> list[Run]:
        """Returns a checkpoint's finished runs that have these tags and were scored as set, the newest first."""
        pipeline = self.pipeline
        settings = settings_of(pipeline.compute, pipeline.scoring)
        wanted = {**tags, **{name: str(value) for name, value in settings.items()}}
        of_checkpoint = tagged(kind=kind, model_id=model_id)
        runs = find_runs(pipeline.client, of_checkpoint, FINISHED, order_by="attributes.end_time DESC")
        return [run for run in runs if wanted.items() <= {**EARLIER_SETTINGS, **run.data.tags}.items()]
