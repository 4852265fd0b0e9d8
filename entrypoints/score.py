"""Scores a track or any list of recordings: `mlflow run . -e score -P track=LA`."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from entrypoints.console_tables import recording_table, scoring_summary
from entrypoints.door import EXIT_BAD_INPUT, console, door_command, say
from entrypoints.options import (
    config_options,
    find_corpus,
    optional_path,
    output_path,
    parse_boolean,
    parse_shard,
    text_option,
    typed_config,
)
from entrypoints.progress import scoring_progress
from sls.data.loading.trial_lists import TrialList, listed_trials, track_trials
from sls.engine.compute.launch import Launch
from sls.engine.compute.ranks import join_ranks
from sls.files import scratch_directory
from sls.tracking.registry.checkpoints import resolve_model
from sls.tracking.run import TrackedRun
from sls.tracking.scoring.score_file import check_output
from sls.tracking.scoring.scoring_run import ScoringOptions, follow_scoring, track_scoring


@door_command("score")
@text_option("model", "models:/NAME@ALIAS, runs:/RUN_ID/epoch_N or a checkpoint file [default: the champion]")
@text_option("track", "track of the tracks file: LA, DF, In-the-Wild, ...")
@text_option("protocol", "instead of a track: a file that lists trials, with audio_dir")
@text_option(
    "audio_dir", "the directory of their recordings; without a protocol, all recordings in it are scored"
)
@text_option("audio", "instead of a list: one recording, whose score is printed")
@text_option("output", "score file to write [default: outputs/scores/KEY/TRACK.txt]")
@text_option("shard", "the part to score, NUMBER/COUNT such as 3/16; -e join joins all parts")
@text_option("force", "true: score anew what is already scored")
@config_options("data", "compute", "scoring")
def score(
    run: TrackedRun, model: str, audio: str, output: str, shard: str, force: str, **options: str
) -> None:
    """Score trials with a checkpoint, and write a score file."""
    config = typed_config(options)
    settings = ScoringOptions(
        config.compute, config.scoring, parse_shard(shard), parse_boolean("force", force)
    )
    if audio:
        # It draws, and scoring a list need not wait until what draws is imported.
        from sls.tracking.scoring.one_recording import track_recording

        _check_recording_alone({**options, "output": output, "shard": shard, "force": force})
        with join_ranks() as ranks, scratch_directory() as directory:
            ranks.share(None)  # One process does it.
            scored = track_recording(run, resolve_model(run.client, model, directory), Path(audio), settings)
        console.print(recording_table(scored), soft_wrap=True)
        return
    place = output_path(output)
    if place is not None:
        check_output(place)
    trials = _find_trials(options, require_audio=settings.compute.max_failures == 0)
    with scratch_directory() as directory:
        source = resolve_model(run.client, model, directory)
        with join_ranks() as ranks:
            parts = max(ranks.world_size, settings.shard.count)
            with scoring_progress(f"score {trials.name}", -(-len(trials.trials) // parts)) as advance:
                scored_list = track_scoring(run, source, trials, settings, place, advance, ranks)
    say(scoring_summary(scored_list, trials, source, settings.shard))


def _check_recording_alone(options: Mapping[str, str]) -> None:
    names = ("track", "protocol", "audio_dir", "output", "shard", "force")
    found = ", ".join(name for name in names if options[name])
    if found:
        raise ValueError(
            f"audio: found {found} beside it, expected one recording alone: its score is printed"
        )


def _find_trials(options: Mapping[str, str], *, require_audio: bool) -> TrialList:
    protocol, audio_dir = optional_path(options["protocol"]), optional_path(options["audio_dir"])
    track = options["track"]
    if audio_dir is None and protocol is None:
        corpus = find_corpus(typed_config(options).data, wanted=[track])
        return track_trials(corpus, track, require_audio=require_audio)
    if track:
        raise ValueError(f"track: found {track} beside protocol or audio_dir, expected the one or the others")
    if audio_dir is None:
        raise ValueError("audio_dir: found nothing, expected the directory of the protocol's recordings")
    return listed_trials(protocol, audio_dir, options["tracks"], require_audio=require_audio)


def follow() -> None:
    """What the other processes of a launch do: a shard each, and no word to the tracking server."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with join_ranks() as ranks:
        try:
            follow_scoring(ranks)
        except (ValueError, OSError) as error:
            print(f"score: rank {ranks.rank}: {error}", file=sys.stderr)
            sys.exit(EXIT_BAD_INPUT)


if __name__ == "__main__":
    follow() if Launch.read().rank else score()
