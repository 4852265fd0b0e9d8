"""Says what a threshold costs where it was not set: `mlflow run . -e operating_point -P track=dev,LA`."""

from dataclasses import asdict

from entrypoints.console_tables import transfer_tables
from entrypoints.door import door_command
from entrypoints.options import (
    config_options,
    find_corpus,
    parse_choice,
    split_list,
    text_option,
    typed_config,
)
from entrypoints.score_options import print_report, read_request, request_options, split_tracks
from sls.files import scratch_directory
from sls.metrics.dcf import DetectionCosts
from sls.quotation import quote
from sls.tracking.evaluation.operating_points import SPEAKER_SPLIT, track_operating_points
from sls.tracking.evaluation.score_sources import find_systems_by_track
from sls.tracking.run import TrackedRun


@door_command("operating_point")
@text_option("track", "tracks, separated by commas; one for several systems at each other's")
@text_option("scores", "score files or scoring runs, separated by commas: TRACK=FILE or TRACK/NAME=FILE")
@text_option("models", "models, separated by commas: the newest scoring run of each on every track is taken")
@text_option("split", "speaker: make two of each track, with other speakers")
@text_option("spoof_prior", "share of trials expected to be spoofed [default: 0.05, as ASVspoof 5]")
@text_option("miss_cost", "cost of a bona fide trial that is rejected [default: 1]")
@text_option("false_alarm_cost", "cost of a spoofed trial that is accepted [default: 10]")
@request_options("subset", "allow_partial", "score_column")
@config_options("data")
def operating_point(run: TrackedRun, track: str, scores: str, models: str, **options: str) -> None:
    """Say what thresholds and calibrations of each track cost on every other."""
    tracks = split_tracks(track)
    costs = read_costs(options)
    split = parse_choice("split", options["split"], ("", SPEAKER_SPLIT))
    request = read_request("", options)
    corpus = find_corpus(typed_config(options).data, wanted=tracks)
    with scratch_directory() as directory:
        placed = find_systems_by_track(
            run.client, corpus.name, tracks, split_list(scores), split_list(models), directory
        )
        report = track_operating_points(run, placed, corpus, request, costs, split)
    print_report(run, transfer_tables(report), report)


def read_costs(options: dict[str, str]) -> DetectionCosts:
    """Returns prior and costs as typed; raises ValueError for one that is no number, no share or not positive."""
    given = {}
    for name, default in asdict(DetectionCosts()).items():
        text = options[name]
        try:
            given[name] = float(text) if text else default
        except ValueError:
            raise ValueError(f"{name}: found {quote(text)}, expected a number") from None
    return DetectionCosts(**given)


if __name__ == "__main__":
    operating_point()
