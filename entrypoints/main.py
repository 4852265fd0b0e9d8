"""The whole experiment: `mlflow run .` trains, scores, evaluates, registers and compares recipes v1 and v2."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from entrypoints.console_tables import decision_table, next_commands, recipe_table
from entrypoints.door import console, door_command, say
from entrypoints.options import config_options, find_corpus, read_config, text_option
from entrypoints.progress import TrainingProgress, scoring_progress
from sls.config import PROJECT_ROOT, Config
from sls.data.corpora.corpus import Corpus, is_built_in
from sls.data.loading.trial_lists import track_trials
from sls.engine.evaluation.calibration import METHODS
from sls.files import scratch_directory
from sls.reports.report import run_report
from sls.tracking.active_run import tracked_run
from sls.tracking.evaluation.comparison_view import Compared, share_comparison
from sls.tracking.evaluation.evaluation_run import EvaluationRequest
from sls.tracking.evaluation.pipeline import CALIBRATION_TRACK, Pipeline, evaluation_tracks, has_data
from sls.tracking.registry.calibrations import find_calibration
from sls.tracking.registry.champions import choose_champion, comparable_place, explain_champion
from sls.tracking.registry.checkpoints import ModelSource, resolve_model
from sls.tracking.registry.stages import appoint_champion, find_champion
from sls.tracking.registry.versions import RegisteredVersion, register
from sls.tracking.run import TrackedRun
from sls.tracking.training.training_run import track_training

RECIPES = (PROJECT_ROOT / "configs" / "v1.yaml", PROJECT_ROOT / "configs" / "v2.yaml")
TRACKS = ("LA", "DF", "In-the-Wild")
"""Those with published figures; of a tracks file of one's own, all that earn an EER."""

Metrics = dict[str, dict[str, float]]


@door_command("main")
@text_option(
    "config", "YAML files of the recipes, separated by commas [default: configs/v1.yaml,configs/v2.yaml]"
)
@config_options()
def main(run: TrackedRun, config: str, **options: str) -> None:
    """Run every recipe on every track, register the results, and print recipe by track."""
    recipes = [Path(path) for path in config.split(",")] if config else RECIPES
    settings = [read_config(path, options) for path in recipes]
    _require_distinct(settings)
    corpus = find_corpus(settings[0].data)
    run.set_tags({"corpus": corpus.name})
    tracks = _pick_tracks(corpus, settings[0])
    # What is missing is found before the first recipe trains, not after.
    has_dev = CALIBRATION_TRACK in corpus.tracks and has_data(corpus, CALIBRATION_TRACK)
    scored = [CALIBRATION_TRACK, *tracks] if has_dev else tracks
    trials = {track: track_trials(corpus, track) for track in scored}
    for track in tracks:
        corpus.track(track).key(corpus.data_root)
    metrics: dict[str, Metrics] = {}
    score_runs: dict[str, dict[str, str]] = {track: {} for track in scored}
    versions: list[RegisteredVersion] = []
    for setting in settings:
        recipe = setting.training.recipe
        links = {"main_run_id": run.run_id}
        pipeline = Pipeline(run.client, corpus, setting.compute, links, scoring_progress, setting.scoring)
        metrics[recipe] = {}
        with scratch_directory() as directory:
            source = _train(run, setting, corpus, directory)
            for track in scored:
                score_runs[track][recipe] = pipeline.score(source, trials[track], recipe)
            for track in tracks:
                _, evaluation = pipeline.evaluate(score_runs[track][recipe], EvaluationRequest(track), recipe)
                metrics[recipe][track] = evaluation.metrics()
            dev_run = score_runs.get(CALIBRATION_TRACK, {}).get(recipe, "")
            calibration = _calibrate(pipeline, source, dev_run, directory)
            versions.append(
                register(run.client, run.experiment_id, source, "staging", calibration=calibration)
            )
    place = comparable_place(settings, corpus.name, tracks)
    best = choose_champion(run.client, place) if place else None
    champion = appoint_champion(run.client, best.version) if best else find_champion(run.client)
    console.print(recipe_table(corpus.name, tracks, versions, metrics, champion))
    if has_dev:
        _print_decisions(pipeline, score_runs, run.run_id)
    if len(settings) > 1:
        for track in tracks:
            comparison = pipeline.compare(score_runs[track], EvaluationRequest(track), run.run_id)
            for verdict in comparison.verdicts:
                say(verdict)
    say(f"Champion: {explain_champion(champion, best)}")
    link = share_comparison(run.client, run.experiment_id, Compared(corpus.name, run.run_id))
    say(next_commands(run.client, link))


def _calibrate(pipeline: Pipeline, source: ModelSource, score_run_id: str, directory: Path) -> Path | None:
    """Returns the calibration that is fitted on a scoring run of dev; None where there is none or it cannot be."""
    recipe = source.recipe
    if score_run_id:
        request = EvaluationRequest(
            CALIBRATION_TRACK, fit_calibration=METHODS[0], is_calibration_optional=True
        )
        run_id, _ = pipeline.evaluate(score_run_id, request, recipe)
        # None could be fitted, or it is of windows, where the served model hears the beginning.
        with suppress(ValueError):
            fitted = find_calibration(pipeline.client, run_id, directory)
            if fitted:
                fitted.check({"model_id": source.model_id, "window_hop": "0"})
                return fitted.path
    say(f"{recipe} is registered without a calibration, so that it is served without a decision")
    return None


def _print_decisions(pipeline: Pipeline, score_runs: dict[str, dict[str, str]], main_run_id: str) -> None:
    """Prints what the decisions of each recipe get wrong; what cannot be judged does not cost the experiment."""
    try:
        report_run, report = pipeline.judge_decisions(score_runs, main_run_id)
    except ValueError as error:  # such as a track that holds the trials of dev
        say(f"Decisions were not judged: {error}")
        return
    console.print(decision_table(report))
    say(f"Decisions at every operating point: {run_report(report_run)}")


def _pick_tracks(corpus: Corpus, config: Config) -> list[str]:
    tracks = list(TRACKS) if is_built_in(config.data.tracks) else evaluation_tracks(corpus)
    if not tracks:
        raise ValueError(f"tracks: found none that earns an EER in {config.data.tracks}, expected one")
    return tracks


def _require_distinct(settings: Sequence[Config]) -> None:
    recipes = [setting.training.recipe for setting in settings]
    if len(set(recipes)) < len(recipes):
        raise ValueError(f"recipe: found {', '.join(recipes)}, expected a name of its own in each YAML file")
    if any(setting.data != settings[0].data for setting in settings):
        raise ValueError(
            "data_root, tracks: found different ones in the YAML files, expected the same for all recipes"
        )


def _train(main_run: TrackedRun, config: Config, corpus: Corpus, directory: Path) -> ModelSource:
    recipe = config.training.recipe
    with (
        tracked_run("train", f"train {recipe}", {"main_run_id": main_run.run_id}, journal=True) as run,
        TrainingProgress(config.training) as progress,
    ):
        trained = track_training(run, config, corpus, progress.on_step, progress.on_epoch)
    return resolve_model(run.client, trained.uri, directory)


if __name__ == "__main__":
    main()
