"""Evaluates a score file: `mlflow run . -e evaluate -P track=LA`."""

from dataclasses import replace

from entrypoints.console_tables import evaluation_table
from entrypoints.door import console, door_command, say
from entrypoints.options import config_options, find_corpus, text_option, typed_config
from entrypoints.score_options import read_request, request_options
from sls.files import scratch_directory
from sls.reports.report import run_report
from sls.tracking.evaluation.evaluation_run import track_evaluation
from sls.tracking.evaluation.score_sources import find_scores
from sls.tracking.registry.calibrations import find_calibration
from sls.tracking.run import TrackedRun


@door_command("evaluate")
@text_option("track", "track of the tracks file: LA, DF, In-the-Wild, ...")
@text_option(
    "scores",
    "score file or id of a scoring run "
    "[default: the newest finished scoring run of the track, but for those of a chart of epochs "
    "and of degraded recordings]",
)
@text_option("model", "take the newest scoring run of this model")
@request_options()
@text_option("calibration", "a calibration to apply: a JSON file, or the evaluation run that fitted it")
@text_option("fit_calibration", "logistic or pav: fit a calibration on these scores and keep it")
@config_options("data")
def evaluate(run: TrackedRun, track: str, scores: str, model: str, **options: str) -> None:
    """Compute EER, min t-DCF and the rest from a score file and a key."""
    with scratch_directory() as directory:
        request = replace(
            read_request(track, options),
            calibration=find_calibration(run.client, options["calibration"], directory),
            fit_calibration=options["fit_calibration"],
        )
        corpus = find_corpus(typed_config(options).data, options["key"], [track])
        source = find_scores(run.client, scores, corpus.name, track, directory, model)
        evaluation = track_evaluation(run, source, corpus, request)
    console.print(evaluation_table(evaluation, source.name))
    if evaluation.scope:
        say(evaluation.scope)
    say(f"Report: {run_report(run.run_id)}")
    if request.fit_calibration:
        advice = f"apply it to another track with -P calibration={run.run_id}"
        say(f"Calibration fitted, not applied to these scores: {advice}")


if __name__ == "__main__":
    evaluate()
