"""Compares systems on a track: `mlflow run . -e compare -P track=LA -P scores=v1=a.txt,v2=b.txt`."""

from entrypoints.console_tables import comparison_table
from entrypoints.door import door_command
from entrypoints.options import config_options, find_corpus, split_list, text_option, typed_config
from entrypoints.score_options import print_report, read_request, request_options
from sls.files import scratch_directory
from sls.tracking.evaluation.evaluation_run import track_comparison
from sls.tracking.evaluation.score_sources import find_systems
from sls.tracking.run import TrackedRun


@door_command("compare")
@text_option("track", "track of the tracks file: LA, DF, In-the-Wild, ...")
@text_option(
    "scores",
    "score files or scoring runs, separated by commas; NAME=FILE names a system, which several of one NAME are "
    "trainings of, by other seeds",
)
@text_option("models", "models, separated by commas: the newest scoring run of each is taken")
@text_option(
    "studies",
    "runs of studies, or of main, separated by commas: their recipes, each by all its seeds, are compared",
)
@request_options()
@config_options("data")
def compare(run: TrackedRun, track: str, scores: str, models: str, studies: str, **options: str) -> None:
    """Say which of two or more systems is better on a track, and whether the data can tell."""
    request = read_request(track, options)
    corpus = find_corpus(typed_config(options).data, options["key"], [track])
    with scratch_directory() as directory:
        systems = find_systems(
            run.client,
            corpus.name,
            track,
            split_list(scores),
            split_list(models),
            directory,
            studies=split_list(studies),
        )
        comparison = track_comparison(run, systems, corpus, request)
    print_report(run, [comparison_table(comparison)], comparison)


if __name__ == "__main__":
    compare()
