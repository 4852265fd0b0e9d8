"""Evaluation as a tracked run: a score file against a key."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run

from sls.data.corpus import Corpus
from sls.data.scores import join_scores, read_scores
from sls.engine.evaluation import Evaluation, evaluate
from sls.tracking.registry import note_evaluation
from sls.tracking.runs import TrackedRun, run_link
from sls.tracking.scoring import SCORES_DIRECTORY

logger = logging.getLogger(__name__)

# Tags that an evaluation run takes over from the scoring run, so that both can be grouped and walked alike.
LINEAGE_TAGS = (
    "model",
    "train_run_id",
    "epoch",
    "recipe",
    "model_id",
    "model_version",
    "checkpoint_sha256",
    "corpus",
)


@dataclass(frozen=True)
class ScoreSource:
    """A score file, and the scoring run that made it, if one did."""

    path: Path
    run_id: str = ""
    link: str = ""
    """The scoring run in the UI, as Markdown."""
    tags: dict[str, str] = field(default_factory=dict)
    """Lineage, from the scoring run."""


def find_scores(client: MlflowClient, scores: str, track: str, model: str = "") -> ScoreSource:
    """Finds the score file that a user means.

    Args:
        client: the tracking store.
        scores: a file, the id of a scoring run, or empty for the newest finished scoring run of the track.
        track: the track.
        model: for an empty `scores`: only runs of this model, as it was named when it was scored.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no such run, or none for that track.
    """
    if scores and (Path(scores).is_file() or not _is_run_id(scores)):
        path = Path(scores)
        if not path.is_file():
            raise FileNotFoundError(
                f"scores: no file {scores} (looked in {Path.cwd()}); expected a score file or the id of a scoring run"
            )
        return ScoreSource(path)
    return _from_run(client.get_run(scores) if scores else _newest_scoring_run(client, track, model))


def track_evaluation(
    run: TrackedRun,
    source: ScoreSource,
    corpus: Corpus,
    track_name: str,
    subset: str | None = None,
    key: Path | None = None,
    asv_scores: Path | None = None,
) -> Evaluation:
    """Evaluates a score file and records the result on a run, on its checkpoint and on its registered version.

    Args:
        run: the run to record on.
        source: the score file.
        corpus: where keys lie.
        track_name: the track, which says how the key is read and what is computed.
        subset: eval, progress, hidden or all; None for the track's own default.
        key: a key file or directory; None looks under the corpus.
        asv_scores: ASV scores, where the key does not bring them.

    Raises:
        FileNotFoundError: the key is missing.
        ValueError: scores and key do not cover the same trials, or one of them is malformed.
    """
    track = corpus.track(track_name)
    subset = subset or track.default_subset
    table = read_scores(source.path)
    key_protocol = track.key(corpus.data_root, key)
    run.set_tags(
        {
            "track": track_name,
            "corpus": corpus.name,
            "subset": subset,
            "scores": str(source.path),
            "scores_sha256": table.digest,
            "key_sha256": key_protocol.digest,
            **source.tags,
        }
    )
    if source.run_id:
        run.set_tags({"score_run_id": source.run_id, "mlflow.note.content": _lineage_note(run, source)})
    dataset = run.log_dataset(key_protocol, f"{corpus.name}-{track_name}-key", "evaluation")
    joined = join_scores(table, key_protocol)
    evaluation = evaluate(
        joined,
        track=track_name,
        corpus=corpus.name,
        subset=subset,
        asv=track.asv_scores(corpus.data_root, key, asv_scores, subset),
    )
    metrics = {f"{track_name}/{name}": value for name, value in evaluation.metrics().items()}
    model_id = source.tags.get("model_id")
    run.log_metrics(metrics, model_id=model_id, dataset=dataset)
    if model_id:
        note_evaluation(run.client, model_id, track_name, evaluation.metrics())
    return evaluation


def _is_run_id(text: str) -> bool:
    return len(text) == 32 and all(character in "0123456789abcdef" for character in text)


def _newest_scoring_run(client: MlflowClient, track: str, model: str) -> Run:
    conditions = ["tags.kind = 'score'", f"tags.track = '{track}'", "attributes.status = 'FINISHED'"]
    if model:
        conditions.append(f"tags.model = '{model}'")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(
        experiments, " and ".join(conditions), order_by=["attributes.end_time DESC"], max_results=1
    )
    if not runs:
        of_model = f" of {model}" if model else ""
        raise ValueError(
            f"scores: no finished scoring run of track {track}{of_model} in {mlflow.get_tracking_uri()}; "
            f"score it first (mlflow run . -e score -P track={track}) or name a file (-P scores=FILE)"
        )
    logger.info("evaluating the newest finished scoring run of %s: %s", track, runs[0].info.run_id)
    return runs[0]


def _from_run(scored: Run) -> ScoreSource:
    run_id = scored.info.run_id
    directory = Path(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/{SCORES_DIRECTORY}"))
    files = sorted(path for path in directory.iterdir() if path.suffix != ".json")
    if len(files) != 1:
        raise ValueError(f"scores: run {run_id} holds {len(files)} score files, expected one")
    tags = {name: scored.data.tags[name] for name in LINEAGE_TAGS if name in scored.data.tags}
    return ScoreSource(files[0], run_id, run_link(scored), tags)


def _lineage_note(run: TrackedRun, source: ScoreSource) -> str:
    links = [f"Scores: {source.link}"]
    if source.tags.get("train_run_id"):
        links.append(f"Training: {run_link(run.client.get_run(source.tags['train_run_id']))}")
    return "  \n".join(links)
