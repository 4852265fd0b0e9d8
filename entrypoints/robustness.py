"""Says what degraded recordings cost a model on a track: `mlflow run . -e robustness -P track=LA`."""

from entrypoints.console_tables import robustness_table
from entrypoints.door import door_command, say
from entrypoints.options import (
    config_options,
    find_corpus,
    optional_path,
    output_path,
    parse_boolean,
    parse_shard,
    split_list,
    text_option,
    typed_config,
)
from entrypoints.progress import scoring_progress
from entrypoints.score_options import print_report, request_options
from sls.data.conditions.conditions import read_conditions
from sls.data.loading.trial_lists import track_trials
from sls.engine.compute.launch import Launch
from sls.files import scratch_directory
from sls.models.checkpoints import load_checkpoint
from sls.tracking.evaluation.evaluation_run import EvaluationRequest
from sls.tracking.evaluation.robustness import ConditionScorer, track_robustness
from sls.tracking.registry.checkpoints import resolve_model
from sls.tracking.run import TrackedRun
from sls.tracking.scoring.scoring_run import ScoringOptions


@door_command("robustness")
@text_option("model", "models:/NAME@ALIAS, runs:/RUN_ID/epoch_N or a checkpoint file [default: the champion]")
@text_option("track", "track of the tracks file: LA, DF, In-the-Wild, ...")
@text_option("conditions", "a YAML file of conditions of your own, beside those of configs/conditions.yaml")
@text_option("only", "names of conditions, separated by commas [default: all of both files]")
@request_options("key", "subset")
@text_option(
    "output", "directory of the score files, TRACK.CONDITION.txt [default: outputs/scores/KEY/TRACK.txt]"
)
@text_option("shard", "the part to score, NUMBER/COUNT such as 3/16; once all are there, without it to judge")
@text_option("force", "true: score anew what is already scored")
@config_options("data", "compute", "scoring")
def robustness(run: TrackedRun, model: str, track: str, **options: str) -> None:
    """Score a track clean and under conditions, and say what each condition costs."""
    num_processes = Launch.read().world_size
    if num_processes > 1:
        raise ValueError(
            f"launch: found {num_processes} processes, expected one; give each a part of its own by shard"
        )
    config = typed_config(options)
    conditions = read_conditions(optional_path(options["conditions"]), split_list(options["only"]))
    settings = ScoringOptions(
        config.compute,
        config.scoring,
        parse_shard(options["shard"]),
        parse_boolean("force", options["force"]),
    )
    corpus = find_corpus(config.data, options["key"], [track])
    trials = track_trials(corpus, track)
    place = output_path(options["output"])
    request = EvaluationRequest(track, options["subset"], optional_path(options["key"]))
    with scratch_directory() as directory:
        source = resolve_model(run.client, model, directory)
        checkpoint = load_checkpoint(source.path, backend=config.compute.backend, place=source.uri)
        scorer = ConditionScorer(run, source, checkpoint, trials, settings, place, scoring_progress)
        report = track_robustness(scorer, conditions, corpus, request)
    if report is None:
        say(
            f"Scored part {settings.shard}; once all parts are scored, the same command without shard judges them."
        )
        return
    print_report(run, [robustness_table(report)], report)


if __name__ == "__main__":
    robustness()
