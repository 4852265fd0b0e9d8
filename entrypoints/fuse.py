"""Fuses systems: `mlflow run . -e fuse -P track=dev,LA -P scores=dev/a=...,dev/b=...,LA/a=...,LA/b=...`."""

from dataclasses import replace

from entrypoints.console_tables import make_table
from entrypoints.door import console, door_command, say
from entrypoints.options import (
    config_options,
    find_corpus,
    output_path,
    split_list,
    text_option,
    typed_config,
)
from entrypoints.score_options import read_request, request_options, split_tracks
from sls.data.tables.protocols import ALL_SUBSETS
from sls.files import scratch_directory
from sls.tracking.evaluation.fusion import track_fusion
from sls.tracking.evaluation.operating_points import join_placed
from sls.tracking.evaluation.score_sources import find_systems_by_track
from sls.tracking.run import TrackedRun


@door_command("fuse")
@text_option(
    "track",
    "tracks, separated by commas: weights are fitted on the first, the others are fused; of one "
    "track each half of its speakers is fused by the weights of the other half",
)
@text_option("scores", "score files or scoring runs, separated by commas: TRACK/NAME=FILE")
@text_option("models", "models, separated by commas: the newest scoring run of each on every track is taken")
@text_option("subset", "of the track that the weights are fitted on: eval, ..., or all [default: its own]")
@text_option("output", "directory of the fused score files, TRACK.txt [default: outputs/scores/fused-RUN_ID]")
@request_options("allow_partial", "score_column")
@config_options("data")
def fuse(run: TrackedRun, track: str, scores: str, models: str, **options: str) -> None:
    """Fit the weights of two or more systems on a track, and write fused score files of others."""
    tracks = split_tracks(track)
    request = replace(read_request("", options), subset=ALL_SUBSETS)
    corpus = find_corpus(typed_config(options).data, wanted=tracks)
    with scratch_directory() as directory:
        placed = find_systems_by_track(
            run.client, corpus.name, tracks, split_list(scores), split_list(models), directory
        )
        joined = join_placed(run, placed, corpus, request)
        conditions = {source.condition for systems in placed.values() for source in systems.values()}
        fusions, written = track_fusion(
            run,
            joined,
            corpus,
            options["subset"],
            output_path(options["output"]),
            ", ".join(sorted(conditions - {""})),
        )
    rows = [
        [fusion.fitted_on, *(f"{weight:.6g}" for weight in (*fusion.llr.weights, fusion.llr.offset))]
        for fusion in fusions
    ]
    console.print(make_table("Weights", ["fitted on"], [*fusions[0].systems, "offset"], rows))
    for run_id, path in written.items():
        say(
            f"Fused scores of {path.stem}: {path}; mlflow run . -e evaluate -P track={path.stem} -P scores={run_id}"
        )


if __name__ == "__main__":
    fuse()
