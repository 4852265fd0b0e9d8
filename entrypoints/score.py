"""Scores a track or any list of recordings: `mlflow run . -e score -P track=LA`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from entrypoints.door import console, door_command
from entrypoints.options import compute_config, config_options, data_config, optional_path, text_option
from entrypoints.progress import progress_bar
from sls.config import PROJECT_ROOT
from sls.data.corpus import open_corpus
from sls.tracking.checkpoints import resolve_model
from sls.tracking.runs import TrackedRun
from sls.tracking.scoring import TrialList, listed_trials, track_scoring, track_trials

OUTPUT_DIRECTORY = PROJECT_ROOT / "outputs" / "scores"


@door_command("score")
@text_option("model", "models:/NAME@ALIAS, runs:/RUN_ID/epoch_N or a checkpoint file [default: the champion]")
@text_option("track", "track of the tracks file: LA, DF, In-the-Wild, ...")
@text_option("protocol", "instead of a track: a file that lists trials, with audio_dir")
@text_option(
    "audio_dir", "the directory of their recordings; without a protocol, all recordings in it are scored"
)
@text_option("output", "score file to write [default: outputs/scores/RUN_ID/TRACK.txt]")
@config_options("data", "compute")
def score(run: TrackedRun, model: str, track: str, output: str, **options: str) -> None:
    """Score trials with a checkpoint, and write a score file."""
    compute = compute_config(options)
    trials = _find_trials(track, options, require_audio=compute.max_failures == 0)
    source = resolve_model(run.client, model)
    path = Path(output) if output else OUTPUT_DIRECTORY / run.run_id / f"{trials.name}.txt"
    with progress_bar(f"score {trials.name}", len(trials.trials)) as advance:
        track_scoring(run, source, trials, compute, path, advance)
    console.print(
        f"Scored {len(trials.trials)} trials of {trials.name} ({trials.corpus}) with {source.uri}: {path}"
    )


def _find_trials(track: str, options: Mapping[str, str], *, require_audio: bool) -> TrialList:
    protocol, audio_dir = optional_path(options["protocol"]), optional_path(options["audio_dir"])
    if audio_dir is None and protocol is None:
        return track_trials(open_corpus(data_config(options)), track, require_audio=require_audio)
    if track:
        raise ValueError(f"track: found {track} beside protocol or audio_dir, expected the one or the others")
    if audio_dir is None:
        raise ValueError("audio_dir: found nothing, expected the directory of the protocol's recordings")
    return listed_trials(protocol, audio_dir, options["tracks"], require_audio=require_audio)


if __name__ == "__main__":
    score()
