"""Evaluates a score file: `mlflow run . -e evaluate -P track=LA`."""

from __future__ import annotations

from pathlib import Path

from entrypoints.door import console, door_command
from entrypoints.options import config_options, data_config, text_option
from entrypoints.tables import evaluation_table
from sls.data.corpus import open_corpus
from sls.tracking.evaluation import find_scores, track_evaluation
from sls.tracking.runs import TrackedRun


@door_command("evaluate")
@text_option("track", "track of the tracks file: LA, DF, In-the-Wild, ...")
@text_option(
    "scores", "score file or id of a scoring run [default: the newest finished scoring run of the track]"
)
@text_option("model", "take the newest scoring run of this model")
@text_option("key", "key file or directory [default: found under data_root]")
@text_option("asv_scores", "ASV scores, where the key does not bring them")
@text_option("subset", "eval, progress, hidden or all [default: the track's own, eval]")
@config_options("data")
def evaluate(
    run: TrackedRun,
    track: str,
    scores: str,
    model: str,
    key: str,
    asv_scores: str,
    subset: str,
    **options: str,
) -> None:
    """Compute EER, min t-DCF and the rest from a score file and a key."""
    corpus = open_corpus(data_config(options))
    corpus.track(track)
    source = find_scores(run.client, scores, track, model)
    evaluation = track_evaluation(
        run,
        source,
        corpus,
        track,
        subset or None,
        Path(key) if key else None,
        Path(asv_scores) if asv_scores else None,
    )
    console.print(evaluation_table(evaluation, str(source.path)))


if __name__ == "__main__":
    evaluate()
