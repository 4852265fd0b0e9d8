"""Comparison as a tracked run: two or more score files on one track."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow import MlflowClient

from sls.data.corpora.corpus import Corpus
from sls.data.tables.score_files import JoinedScores, join_scores, read_scores
from sls.engine.evaluation.comparison import compare
from sls.engine.evaluation.comparison_results import Comparison
from sls.engine.evaluation.evaluation import EvaluationPlan
from sls.files import scratch_directory
from sls.reports.report import REPORT_DIRECTORY, write_comparison_report
from sls.tracking.evaluation.evaluation_run import EvaluationRequest, key_tags
from sls.tracking.evaluation.score_sources import ScoreSource, find_scores
from sls.tracking.run import TrackedRun


def find_systems(
    client: MlflowClient,
    corpus: str,
    track: str,
    scores: Sequence[str],
    models: Sequence[str],
    directory: Path | None = None,
) -> dict[str, ScoreSource]:
    """Finds the score files to compare, by the name of their system.

    Args:
        client: the tracking store.
        corpus: the corpus that the track is of.
        track: the track.
        scores: score files or scoring runs, each of which may be named: `baseline=scores.txt`.
        models: models, each of which stands for its newest finished scoring run of the track.
        directory: where to download the scores of runs; None for temporary places that stay.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: fewer than two systems, two of one name, a name without a file, or no such run.
    """
    found: dict[str, ScoreSource] = {}
    wanted = [(item, *_split_name(item), "") for item in scores] + [
        (model, "", "", model) for model in models
    ]
    for number, (item, name, place, model) in enumerate(wanted):
        # Each in a folder of its own: the score files of two runs have one name.
        folder = None if directory is None else directory / str(number)
        if folder is not None:
            folder.mkdir()
        if not (place or model):
            raise ValueError(f"scores: found {item}, expected NAME=FILE or NAME=RUN_ID")
        source = find_scores(client, place, corpus, track, model, folder)
        system = name or source.system
        if re.fullmatch(r"[\w .:-]+", system) is None:
            raise ValueError(
                f"systems: found the name {system}, expected letters, digits, _, - and .; use NAME=FILE"
            )
        if system in found:
            raise ValueError(
                f"systems: {item} is the second system called {system}; name them: -P scores=NAME=FILE,..."
            )
        found[system] = source
    if len(found) < 2:
        raise ValueError(f"systems: found {len(found)}, expected two or more in scores or models")
    return found


def track_comparison(
    run: TrackedRun, sources: Mapping[str, ScoreSource], corpus: Corpus, request: EvaluationRequest
) -> Comparison:
    """Compares score files and records the report on a run.

    Raises:
        FileNotFoundError: the key is missing.
        ValueError: scores and key do not cover the same trials (where that is allowed: nothing in common), or a
            malformed file.
    """
    track = corpus.track(request.track)
    subset = request.subset or track.default_subset
    key = track.key(corpus.data_root, request.key)
    run.set_tags(
        {
            "track": track.name,
            "corpus": corpus.name,
            "subset": subset,
            **key_tags(key),
            "systems": ", ".join(sources),
        }
    )
    run.log_dataset(key, f"{corpus.name}-{track.name}-key", "evaluation")
    joined: dict[str, JoinedScores] = {}
    for name, source in sources.items():
        table = read_scores(source.path, source.name)
        run.set_tags({f"scores.{name}": source.name, f"scores_sha256.{name}": table.digest})
        joined[name] = join_scores(table, key, allow_partial=request.allow_partial)
    comparison = compare(
        joined,
        EvaluationPlan(
            track=track.name,
            corpus=corpus.name,
            subset=subset,
            metrics=track.metrics,
            breakdown=track.breakdown,
            asv=track.asv_scores(corpus.data_root, request.key, request.asv_scores, subset),
        ),
    )
    for name, evaluation in zip(sources, comparison.evaluations, strict=True):
        metrics = evaluation.metrics()
        run.log_metrics({f"{track.name}/{metric}.{name}": value for metric, value in metrics.items()})
    run.set_tags({"verdict": " ".join(comparison.verdicts)})
    with scratch_directory() as directory:
        write_comparison_report(comparison, directory)
        run.log_directory(directory, REPORT_DIRECTORY)
    return comparison


def _split_name(item: str) -> tuple[str, str]:
    name, separator, place = item.partition("=")
    return (name, place) if separator else ("", item)
