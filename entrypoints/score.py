"""Scores a track or any list of recordings: `mlflow run . -e score -P track=LA`."""

from __future__ import annotations

from pathlib import Path

from entrypoints.door import console, door_command
from entrypoints.options import compute_config, config_options, data_config, text_option
from entrypoints.progress import progress_bar
from sls.config import PROJECT_ROOT
from sls.data.corpus import open_corpus
from sls.tracking.checkpoints import resolve_model
from sls.tracking.runs import TrackedRun
from sls.tracking.scoring import track_scoring, track_trials

OUTPUT_DIRECTORY = PROJECT_ROOT / "outputs" / "scores"


@door_command("score")
@text_option("model", "models:/NAME@ALIAS, runs:/RUN_ID/epoch_N or a checkpoint file [default: the champion]")
@text_option("track", "track of the tracks file: LA, DF, In-the-Wild, ...")
@text_option("output", "score file to write [default: outputs/scores/RUN_ID/TRACK.txt]")
@config_options("data", "compute")
def score(run: TrackedRun, model: str, track: str, output: str, **options: str) -> None:
    """Score every trial of a track with a checkpoint, and write a score file."""
    corpus = open_corpus(data_config(options))
    trials = track_trials(corpus, track)
    source = resolve_model(run.client, model)
    path = Path(output) if output else OUTPUT_DIRECTORY / run.run_id / f"{trials.name}.txt"
    with progress_bar(f"score {trials.name}", len(trials.trials)) as advance:
        track_scoring(run, source, trials, compute_config(options), path, advance)
    console.print(
        f"Scored {len(trials.trials)} trials of {trials.name} ({trials.corpus}) with {source.uri}: {path}"
    )


if __name__ == "__main__":
    score()
