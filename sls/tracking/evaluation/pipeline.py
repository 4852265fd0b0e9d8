"""Scoring and evaluation in one go, each as a tracked run of its own."""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from sls.config import ComputeConfig, ScoringConfig
from sls.data.corpora.corpus import Corpus
from sls.data.loading.trial_lists import TrialList
from sls.engine.evaluation.comparison_results import Comparison
from sls.engine.evaluation.evaluation import Evaluation
from sls.engine.evaluation.transfer_results import TransferReport
from sls.files import scratch_directory
from sls.tracking.active_run import tracked_run
from sls.tracking.evaluation.evaluation_run import EvaluationRequest, track_comparison, track_evaluation
from sls.tracking.evaluation.operating_points import track_operating_points
from sls.tracking.evaluation.score_sources import find_scores, find_systems, find_systems_by_track
from sls.tracking.registry.checkpoints import ModelSource
from sls.tracking.run import TrackedRun
from sls.tracking.scoring.score_file import IS_CLEAN
from sls.tracking.scoring.scoring_run import ScoringOptions, track_scoring
from sls.tracking.store import FINISHED, find_first_run, tagged
from sls.tracking.tags import MODEL_ID_TAG, NOT_COMPARABLE_TAG, PARENT_TAG, SCORE_RUN_TAG

CALIBRATION_TRACK = "dev"
TRAINING_TRACKS = ("train", CALIBRATION_TRACK)
"""What recipes train and validate on: no evaluation."""

logger = logging.getLogger(__name__)

ProgressBar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Opens a bar of a title and a number of trials; the block gets a function that advances it."""


@dataclass(frozen=True)
class Pipeline:
    """Scores and evaluates checkpoints on the tracks of a corpus."""

    client: MlflowClient
    corpus: Corpus
    compute: ComputeConfig
    links: Mapping[str, str]
    """Tags of every run, by which it is found again from the run that asked for it."""
    progress: ProgressBar
    scoring: ScoringConfig
    workplace: Path | None = None
    """Where scores lie until they are recorded, so that what is stopped goes on. Runs of the same `links` that have
    finished are then found again. None: a temporary place."""

    def score(self, source: ModelSource, trials: TrialList, title: str) -> str:
        """Scores a track, if that is not done, and returns the id of the scoring run, which keeps the score file.

        The title, such as a recipe, names the checkpoint in the name of the run. Raises ValueError for recordings
        that cannot be read, and for what is no checkpoint.
        """
        done = self._find_done("score", trials.name, **{MODEL_ID_TAG: source.model_id})
        if done is not None:
            return str(done.info.run_id)
        with (
            self._open_workplace(source) as directory,
            tracked_run("score", f"score {title} {trials.name}", self.links) as run,
            self.progress(f"{title} score {trials.name}", len(trials.trials)) as advance,
        ):
            options = ScoringOptions(self.compute, self.scoring)
            track_scoring(run, source, trials, options, directory / f"{trials.name}.txt", advance)
        return run.run_id

    def measure(self, score_run_id: str, track: str, title: str) -> dict[str, float]:
        """Evaluates the scores of a scoring run, if that is not done; returns metrics such as `LA/eer_percent`."""
        done = self._find_done("evaluate", track, **{SCORE_RUN_TAG: score_run_id})
        if done is not None:
            return dict(done.data.metrics)
        _, evaluation = self.evaluate(score_run_id, EvaluationRequest(track), title)
        return {f"{track}/{name}": value for name, value in evaluation.metrics().items()}

    def evaluate(
        self, score_run_id: str, request: EvaluationRequest, title: str, in_place: bool = False
    ) -> tuple[str, Evaluation]:
        """Evaluates the scores of a scoring run, and returns the id of the run that holds the result, and this.

        With `in_place` the scoring run itself gets the result, rather than a run of its own.

        Raises:
            FileNotFoundError: the key is missing.
            ValueError: scores and key do not cover the same trials, or one of them is malformed.
        """
        name = f"evaluate {title} {request.track}"
        if in_place:
            self.client.update_run(score_run_id, name=name)
            opened: AbstractContextManager[TrackedRun] = nullcontext(TrackedRun(self.client, score_run_id))
        else:
            opened = tracked_run("evaluate", name, self.links)
        with scratch_directory() as directory, opened as run:
            source = find_scores(self.client, score_run_id, self.corpus.name, request.track, directory)
            return run.run_id, track_evaluation(run, source, self.corpus, request)

    def compare(
        self, score_runs: Mapping[str, Sequence[str]], request: EvaluationRequest, asked_by: str
    ) -> Comparison:
        """Compares scoring runs of one track.

        Args:
            score_runs: Their ids, by what each system is called; several of one are of trainings by other seeds.
            request: The track, and what to compute.
            asked_by: The run whose child the comparison is.

        Raises:
            ValueError: fewer than two, or nothing in common.
        """
        named = [f"{name}={run_id}" for name, run_ids in score_runs.items() for run_id in run_ids]
        title = f"compare {', '.join(score_runs)} {request.track}"
        with scratch_directory() as directory, tracked_run("compare", title, self.links) as run:
            run.set_tags({PARENT_TAG: asked_by})
            systems = find_systems(
                self.client, self.corpus.name, request.track, named, [], directory, studies=()
            )
            return track_comparison(run, systems, self.corpus, request)

    def judge_decisions(
        self, score_runs: Mapping[str, Mapping[str, str]], asked_by: str
    ) -> tuple[str, TransferReport]:
        """Judges each system at the operating points of each track; returns the id of the run that holds the report.

        Args:
            score_runs: Ids of scoring runs, by track and by what each system is called; the first track is the one
                that calibrations were fitted on.
            asked_by: The run whose child this is.
        """
        tracks = list(score_runs)
        named = [f"{track}/{name}={run_id}" for track in tracks for name, run_id in score_runs[track].items()]
        title = f"operating_point {', '.join(tracks)}"
        with scratch_directory() as directory, tracked_run("operating_point", title, self.links) as run:
            run.set_tags({PARENT_TAG: asked_by})
            placed = find_systems_by_track(self.client, self.corpus.name, tracks, named, [], directory)
            return run.run_id, track_operating_points(run, placed, self.corpus, EvaluationRequest(""))

    def _find_done(self, kind: str, track: str, **tags: str) -> Run | None:
        """Returns the finished run of the same links, before this process was started, if there is one."""
        if self.workplace is None:
            return None
        wanted = tagged(**{**self.links, "kind": kind, "track": track, **tags})
        return find_first_run(self.client, wanted, f"tags.{NOT_COMPARABLE_TAG} IS NULL", IS_CLEAN, FINISHED)

    @contextmanager
    def _open_workplace(self, source: ModelSource) -> Iterator[Path]:
        """The directory for the scores of a checkpoint; it stays where they were not recorded."""
        if self.workplace is None:
            with scratch_directory() as directory:
                yield directory
            return
        place = self.workplace / source.model_id
        place.mkdir(parents=True, exist_ok=True)
        yield place
        shutil.rmtree(place)


def find_tracks(corpus: Corpus, names: Sequence[str] = ()) -> list[str]:
    """Returns the tracks to evaluate: those named, or those of `evaluation_tracks` that have key and audio.

    Raises:
        ValueError: there is no such track, or none of the corpus has data.
    """
    if names:
        return [corpus.track(name).name for name in dict.fromkeys(names)]
    wanted = evaluation_tracks(corpus)
    there = [name for name in wanted if has_data(corpus, name)]
    if not there:
        raise ValueError(
            f"track: found data of none of {', '.join(wanted)} under {corpus.data_root}, "
            "expected one at least (see mlflow run . -e check_data)"
        )
    return there


def evaluation_tracks(corpus: Corpus) -> list[str]:
    """Returns the tracks that are evaluated unless others are named: those that earn an EER, but train and dev.

    Raises:
        ValueError: there is none.
    """
    found = [
        name
        for name, track in corpus.tracks.items()
        if name not in TRAINING_TRACKS and "eer" in track.metrics and not track.is_by_name
    ]
    if not found:
        raise ValueError(f"tracks: found none of {corpus.name} that earns an EER, expected one")
    return found


def has_data(corpus: Corpus, name: str) -> bool:
    """Whether key and recordings of a track are there."""
    track = corpus.track(name)
    try:
        track.locate(track.key(corpus.data_root), corpus.data_root)
    except FileNotFoundError as error:
        logger.info("%s is left out: %s", name, error)
        return False
    return True
