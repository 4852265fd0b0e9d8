"""The whole experiment: `mlflow run .` trains, scores, evaluates, registers and compares recipes v1 and v2."""

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from entrypoints.console_tables import decision_table
from entrypoints.door import console, door_command, say
from entrypoints.experiment_tables import SHOWN_METRICS, next_commands, recipe_table
from entrypoints.options import (
    SEEDS_TEXT,
    config_options,
    find_corpus,
    given,
    read_config,
    text_option,
    with_seeds,
)
from entrypoints.progress import scoring_progress, train_seed
from sls.config import PROJECT_ROOT, WORK_ROOT, Config
from sls.data.loading.trial_lists import TrialList, track_trials
from sls.engine.compute.launch import Launch
from sls.engine.evaluation.calibration import METHODS
from sls.files import scratch_directory
from sls.reports.report import run_report
from sls.tracking.evaluation.comparison_view import Compared, share_comparison
from sls.tracking.evaluation.evaluation_run import EvaluationRequest
from sls.tracking.evaluation.pipeline import CALIBRATION_TRACK, Pipeline, evaluation_tracks, has_data
from sls.tracking.registry.calibrations import find_calibration
from sls.tracking.registry.champions import choose_champion, comparable_place, explain_champion
from sls.tracking.registry.checkpoints import ModelSource, resolve_model
from sls.tracking.registry.stages import appoint_champion, find_champion
from sls.tracking.registry.versions import RegisteredVersion, register
from sls.tracking.run import TrackedRun
from sls.tracking.tags import MAIN_TAG, SEEDS_TAG, STUDY_TAG
from sls.tracking.training.study import Study, choose_seed, describe_shortage, log_summary, read_seed

RECIPES = (PROJECT_ROOT / "configs" / "v1.yaml", PROJECT_ROOT / "configs" / "v2.yaml")
WORKPLACE = WORK_ROOT / "outputs" / "main"
"""Where scores lie until they are recorded, by the run that asked for them."""
MORE_FOLLOWS_VARIABLE = "SLS_MORE_FOLLOWS"
"""Is set by `make demo`, which goes on with `epochs` and tells there what to do next."""


@dataclass
class Results:
    """What is known of the recipes so far."""

    metrics: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    """By recipe, those of the evaluations of each seed, such as `LA/eer_percent`."""
    score_runs: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """By track, then by recipe, the scoring runs of each seed."""
    chosen_runs: dict[str, dict[str, str]] = field(default_factory=dict)
    """The same of the seed that is registered alone; of dev too."""
    versions: list[RegisteredVersion] = field(default_factory=list)


@door_command("main")
@text_option(
    "config", "YAML files of the recipes, separated by commas [default: configs/v1.yaml,configs/v2.yaml]"
)
@text_option("seeds", SEEDS_TEXT)
@text_option("resume", "id of a run of main to go on with, where it was stopped; all else as before")
@config_options()
def main(run: TrackedRun, config: str, seeds: str, resume: str, **options: str) -> None:
    """Run every recipe on every track, register the results, and print recipe by track."""
    if (num_processes := Launch.read().world_size) > 1:
        raise ValueError(
            f"main: found a launch of {num_processes} processes, expected one; train takes several"
        )
    recipes = [Path(path) for path in config.split(",")] if config else RECIPES
    settings = [read_config(path, options) for path in recipes]
    _require_distinct(settings)
    by_seed = [with_seeds(setting, seeds, options["seed"]) for setting in settings]
    corpus = find_corpus(settings[0].data)
    _hold_seeds(run, by_seed)
    run.set_tags({"corpus": corpus.name})
    tracks = evaluation_tracks(corpus)
    # What is missing is found before the first recipe trains, not after.
    has_dev = CALIBRATION_TRACK in corpus.tracks and has_data(corpus, CALIBRATION_TRACK)
    scored = [CALIBRATION_TRACK, *tracks] if has_dev else tracks
    trials = {track: track_trials(corpus, track) for track in scored}
    for track in tracks:
        corpus.track(track).key(corpus.data_root)
    links = {MAIN_TAG: run.run_id}
    if len(by_seed[0]) > 1:
        links[STUDY_TAG] = run.run_id
    if shortage := describe_shortage(len(by_seed[0])):
        say(shortage)
    workplace = WORKPLACE / run.run_id
    found = Results(score_runs={track: {} for track in tracks}, chosen_runs={track: {} for track in scored})
    with _saying_how_to_go_on(run.run_id, given({"config": config, "seeds": seeds, **options})):
        for own in by_seed:
            compute, scoring = own[0].compute, own[0].scoring
            pipeline = Pipeline(run.client, corpus, compute, links, scoring_progress, scoring, workplace)
            study = Study(run.client, links, bool(resume))
            _run_recipe(run, pipeline, study, own, trials, found)
    with suppress(OSError):  # it never was, or holds scores that were not recorded
        workplace.rmdir()
    place = comparable_place(settings, corpus.name, tracks)
    best = choose_champion(run.client, place) if place else None
    champion = appoint_champion(run.client, best.version) if best else find_champion(run.client)
    console.print(recipe_table(corpus.name, scored, found.versions, found.metrics, champion))
    if has_dev:
        _print_decisions(pipeline, found.chosen_runs, run.run_id)
    if len(settings) > 1:
        _print_verdicts(pipeline, found.score_runs, run.run_id)
    say(f"Champion: {explain_champion(champion, best)}")
    link = share_comparison(run.client, run.experiment_id, Compared(corpus.name, run.run_id))
    if not os.environ.get(MORE_FOLLOWS_VARIABLE):
        say(next_commands(run.client, link))


@contextmanager
def _saying_how_to_go_on(run_id: str, typed: Mapping[str, str]) -> Iterator[None]:
    """Says the whole command where Ctrl-C or SIGTERM ends a `with` block, and at its beginning what is needed."""
    say(f"Run {run_id}; if it is stopped: the same command with -P resume={run_id}")
    try:
        yield
    except KeyboardInterrupt:
        words = [f"--{name}={value}" for name, value in {**typed, "resume": run_id}.items()]
        say(f"All of it goes on with: {shlex.join([sys.executable, '-m', 'entrypoints.main', *words])}")
        raise


def _run_recipe(
    run: TrackedRun,
    pipeline: Pipeline,
    study: Study,
    by_seed: Sequence[Config],
    trials: Mapping[str, TrialList],
    found: Results,
) -> None:
    """Trains a recipe by every seed, scores and evaluates each on every track, and registers the chosen one.

    That is the one whose monitored loss is the lowest. It alone is scored on dev, on which it is calibrated.
    """
    recipe, corpus, is_one = by_seed[0].training.recipe, pipeline.corpus, len(by_seed) == 1
    trained = [read_seed(run.client, train_seed(study, config, corpus, is_one=is_one)) for config in by_seed]
    best = choose_seed(trained)
    metrics = found.metrics[recipe] = [{} for _ in trained]
    for item, measured in zip(trained, metrics, strict=True):
        title = recipe if len(trained) == 1 else f"{recipe} seed {item.seed}"
        tracks = [track for track in trials if track in found.score_runs or item is best]
        say(f"{title} chose {item.model.told}; scoring and evaluating it on {', '.join(tracks)}")
        with scratch_directory() as directory:
            source = resolve_model(run.client, item.model.uri, directory)
            scored = {track: pipeline.score(source, trials[track], title) for track in tracks}
            for track, score_runs in found.score_runs.items():
                score_runs.setdefault(recipe, []).append(scored[track])
                measured |= pipeline.measure(scored[track], track, title)
            if item is best:
                for track, score_run in scored.items():
                    found.chosen_runs[track][recipe] = score_run
                dev_run = scored.get(CALIBRATION_TRACK, "")
                calibration, of_dev = _calibrate(pipeline, source, dev_run, directory)
                measured |= of_dev
                version = register(run.client, run.experiment_id, source, "staging", calibration=calibration)
                found.versions.append(version)
    if len(trained) > 1:
        shown = [
            {**_pick_shown(measured), **item.metrics} for item, measured in zip(trained, metrics, strict=True)
        ]
        log_summary(run, recipe, shown)
        say(f"{recipe} is registered by seed {best.seed}, whose {best.monitored} is the lowest")


def _pick_shown(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name.rpartition("/")[2] in SHOWN_METRICS}


def _calibrate(
    pipeline: Pipeline, source: ModelSource, score_run_id: str, directory: Path
) -> tuple[Path | None, dict[str, float]]:
    """Evaluates a scoring run of dev, and fits a calibration on it.

    Returns:
        The calibration, None where there is none or it cannot be; and metrics such as `dev/eer_percent`.
    """
    recipe, metrics = source.recipe, {}
    if score_run_id:
        request = EvaluationRequest(
            CALIBRATION_TRACK, fit_calibration=METHODS[0], is_calibration_optional=True
        )
        run_id, evaluation = pipeline.evaluate(score_run_id, request, recipe)
        metrics = {f"{CALIBRATION_TRACK}/{name}": value for name, value in evaluation.metrics().items()}
        # None could be fitted, or it is of windows, where the served model hears the beginning.
        with suppress(ValueError):
            fitted = find_calibration(pipeline.client, run_id, directory)
            if fitted:
                fitted.check({"model_id": source.model_id, "window_hop": "0"})
                return fitted.path, metrics
    say(f"{recipe} is registered without a calibration, so that it is served without a decision")
    return None, metrics


def _print_decisions(pipeline: Pipeline, score_runs: dict[str, dict[str, str]], main_run_id: str) -> None:
    """Prints what the decisions of each recipe get wrong; what cannot be judged does not cost the experiment."""
    try:
        report_run, report = pipeline.judge_decisions(score_runs, main_run_id)
    except ValueError as error:  # such as a track that holds the trials of dev
        say(f"Decisions were not judged: {error}")
        return
    console.print(decision_table(report))
    say(f"Decisions at every operating point: {run_report(report_run)}")


def _print_verdicts(
    pipeline: Pipeline, score_runs: Mapping[str, Mapping[str, Sequence[str]]], main_run_id: str
) -> None:
    for track, by_recipe in score_runs.items():
        for verdict in pipeline.compare(by_recipe, EvaluationRequest(track), main_run_id).verdicts:
            say(verdict)


def _require_distinct(settings: Sequence[Config]) -> None:
    recipes = [setting.training.recipe for setting in settings]
    if len(set(recipes)) < len(recipes):
        raise ValueError(f"recipe: found {', '.join(recipes)}, expected a name of its own in each YAML file")
    if any(setting.data != settings[0].data for setting in settings):
        raise ValueError(
            "data_root, tracks: found different ones in the YAML files, expected the same for all recipes"
        )


def _hold_seeds(run: TrackedRun, by_seed: Sequence[Sequence[Config]]) -> None:
    """Records which trainings are asked for; raises ValueError where a run that goes on began with others."""
    asked = "; ".join(
        f"{own[0].training.recipe} by {','.join(str(config.training.seed) for config in own)}"
        for own in by_seed
    )
    begun = run.client.get_run(run.run_id).data.tags.get(SEEDS_TAG, asked)
    if begun != asked:
        raise ValueError(f"seeds: found {asked} beside resume, expected {begun}, with which the run began")
    run.set_tags({SEEDS_TAG: asked})


if __name__ == "__main__":
    main()
