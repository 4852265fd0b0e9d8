"""Registers a checkpoint, moves a version to a stage, or names the champion.

mlflow run . -e register -P run_id=RUN_ID
mlflow run . -e register -P version=3 -P stage=production
mlflow run . -e register -P champion=DF -P apply=true
"""

from entrypoints.door import door_command, say
from entrypoints.options import parse_boolean, parse_choice, text_option
from sls.config import check_name
from sls.files import scratch_directory
from sls.tracking.registry.calibrations import find_calibration
from sls.tracking.registry.champions import POLICIES, choose_champion
from sls.tracking.registry.checkpoints import epoch_name, resolve_model
from sls.tracking.registry.stages import PRODUCTION, StageMove, find_champion, move_stage
from sls.tracking.registry.versions import register as register_version
from sls.tracking.run import TrackedRun

STAGING = "staging"


@door_command("register")
@text_option("run_id", "the training run")
@text_option("epoch", "its epoch [default: the one that the recipe chose]")
@text_option("recipe", "name of the recipe [default: the run's]")
@text_option("stage", "staging, production or archived [default: staging]")
@text_option("calibration", "JSON file or evaluation run that fitted it, for decisions of the served model")
@text_option("version", "move this version to `stage`; nothing is registered")
@text_option(
    "champion",
    "name the champion: the best version on this track, such as DF or demo.DF; several for by=worst",
)
@text_option(
    "by", "for champion: eer, act_dcf (of decisions) or worst (EER, of several tracks) [default: eer]"
)
@text_option("apply", "true: move that champion to production [default: false, only say why]")
def register(
    run: TrackedRun, champion: str, by: str, apply: str, version: str, stage: str, **options: str
) -> None:
    """Register a checkpoint as a version of xlsr-sls that can be served, or say which version is served."""
    is_applied = parse_boolean("apply", apply)
    typed = [name for name, value in {**options, "version": version, "champion": champion}.items() if value]
    if champion:
        _refuse_others("champion", {*typed, *(["stage"] if stage else [])})
        _name_champion(run, champion, parse_choice("by", by, POLICIES), is_applied)
    elif is_applied or by:
        found = "apply: found true" if is_applied else f"by: found {by}"
        raise ValueError(f"{found} without champion, expected a track, such as -P champion=DF")
    elif version:
        _refuse_others("version", set(typed))
        move = move_stage(run.client, version, stage)
        run.set_tags({"model_version": version, "stage": stage})
        _print_move(move)
    else:
        _register(run, stage or STAGING, **options)


def _register(run: TrackedRun, stage: str, run_id: str, epoch: str, recipe: str, calibration: str) -> None:
    if not run_id:
        raise ValueError("run_id: found nothing, expected the id of a training run")
    if recipe:
        check_name("recipe", recipe)
    uri = f"runs:/{run_id}/{epoch_name(epoch)}" if epoch else f"runs:/{run_id}"
    with scratch_directory() as directory:
        source = resolve_model(run.client, uri, directory / "model")
        fitted = find_calibration(run.client, calibration, directory)
        if fitted:
            # What is served hears the beginning of a recording.
            fitted.check({"model_id": source.model_id, "window_hop": "0"})
        path = fitted.path if fitted else None
        version = register_version(
            run.client, run.experiment_id, source, stage, recipe=recipe, calibration=path
        )
    run.set_tags({**source.tags(), "model_version": version.version, "recipe": version.recipe})
    ending = ", with its calibration" if path else ""
    say(f"Registered {source.uri} as {version.uri} (recipe {version.recipe}, stage {stage}){ending}")


def _name_champion(run: TrackedRun, track: str, by: str, is_applied: bool) -> None:
    best = choose_champion(run.client, track, by)
    now = find_champion(run.client)
    run.set_tags({"champion": best.version, "reason": best.reason})
    say(f"Champion: {best.reason}. Now: {f'version {now}' if now else 'none'}.")
    if is_applied:
        _print_move(move_stage(run.client, best.version, PRODUCTION))
    else:
        say("Nothing was changed; add -P apply=true to move it to production.")


def _print_move(move: StageMove) -> None:
    lines = [f"Version {move.version}: {move.before or 'no stage'} -> {move.after}"]
    lines += [f"Version {other}: production -> archived" for other in move.archived]
    lines.append(f"Champion: {f'version {move.champion}' if move.champion else 'none'}")
    say("\n".join(lines))


def _refuse_others(name: str, typed: set[str]) -> None:
    others = sorted(typed - {name})
    if others:
        raise ValueError(f"{name}: found {', '.join(others)} beside it, expected it alone")


if __name__ == "__main__":
    register()
