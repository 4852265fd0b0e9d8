"""Evaluates all epochs of training runs: `mlflow run . -e epochs`, or with `-P runs=RUN_ID,RUN_ID`."""

from collections.abc import Sequence

from rich.table import Table

from entrypoints.console_tables import make_table
from entrypoints.door import console, door_command, say
from entrypoints.experiment_tables import next_commands
from entrypoints.options import config_options, find_corpus, split_list, text_option, typed_config
from entrypoints.progress import scoring_progress
from sls.data.corpora.corpus import DEMO_CORPUS, SYNTHETIC_NOTE
from sls.tracking.evaluation.comparison_view import Compared, share_comparison
from sls.tracking.evaluation.epochs import FIGURE_FILE, EvaluatedEpoch, track_epochs
from sls.tracking.evaluation.pipeline import Pipeline, find_tracks
from sls.tracking.evaluation.trainings import TrainingRun, find_training_runs
from sls.tracking.names import check_system
from sls.tracking.run import TrackedRun
from sls.tracking.store import place_in_order
from sls.tracking.tags import EPOCHS_TAG


@door_command("epochs")
@text_option(
    "runs",
    "ids of training runs, separated by commas [default: the newest finished one of each recipe on this corpus]",
)
@text_option("track", "tracks, separated by commas [default: those of main that have data]")
@config_options("data", "compute", "scoring")
def epochs(run: TrackedRun, runs: str, track: str, **options: str) -> None:
    """Score and evaluate every epoch of training runs, and draw the EER by epoch and track."""
    config = typed_config(options)
    corpus = find_corpus(config.data, wanted=split_list(track))
    trainings = find_training_runs(run.client, split_list(runs), run.experiment_id, corpus.name)
    for training in trainings:
        check_system(training.name, "runs")
    tracks = find_tracks(corpus, split_list(track))
    links = {EPOCHS_TAG: run.run_id}
    pipeline = Pipeline(run.client, corpus, config.compute, links, scoring_progress, config.scoring)
    evaluated = track_epochs(run, pipeline, trainings, tracks)
    console.print(_epochs_table(corpus.name, tracks, evaluated))
    for item in evaluated:
        if item.note:
            say(f"{item.title}: {item.note}")
    num_new = sum(item.is_new for item in evaluated)
    rest = "" if num_new == len(evaluated) else "; the others were known"
    say(f"Evaluated {num_new} of {len(evaluated)}{rest}.")
    say(f"Chart: runs:/{run.run_id}/{FIGURE_FILE}")
    link = share_comparison(run.client, run.experiment_id, choose_compared(trainings, corpus.name))
    say(next_commands(run.client, link))


def choose_compared(trainings: Sequence[TrainingRun], corpus: str) -> Compared:
    """Returns the trainings' own experiment if they are of one, or else all recipes on the newest one's corpus."""
    newest = max(trainings, key=lambda training: place_in_order(training.run)).run.data.tags
    main_runs = {training.run.data.tags.get("main_run_id", "") for training in trainings}
    return Compared(newest.get("corpus", corpus), main_runs.pop() if len(main_runs) == 1 else "")


def _epochs_table(corpus: str, tracks: Sequence[str], evaluated: Sequence[EvaluatedEpoch]) -> Table:
    eer_percent = {(item.recipe, item.epoch, item.track): item.eer_percent for item in evaluated}
    chosen = {(item.recipe, item.epoch): item.is_chosen for item in evaluated}
    rows = []
    for (recipe, epoch), is_chosen in chosen.items():
        found = [eer_percent[recipe, epoch, track] for track in tracks]
        cells = ["-" if value is None else f"{value:.2f}" for value in found]
        rows.append([recipe, f"{epoch} (chosen)" if is_chosen else str(epoch), *cells])
    note = SYNTHETIC_NOTE if corpus == DEMO_CORPUS else None
    return make_table(f"EER % by epoch ({corpus})", ["recipe"], ["epoch", *tracks], rows, note)


if __name__ == "__main__":
    epochs()
