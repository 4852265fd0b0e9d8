"""Registers a training run's checkpoint: `mlflow run . -e register -P run_id=RUN_ID`."""

from __future__ import annotations

from entrypoints.door import console, door_command
from entrypoints.options import text_option
from sls.tracking.checkpoints import resolve_model
from sls.tracking.registry import register as register_version
from sls.tracking.runs import TrackedRun


@door_command("register")
@text_option("run_id", "the training run")
@text_option("epoch", "its epoch [default: the one that the recipe chose]")
@text_option("recipe", "name of the recipe [default: the run's]")
@text_option("stage", "staging, production or archived [default: staging]")
def register(run: TrackedRun, run_id: str, epoch: str, recipe: str, stage: str) -> None:
    """Register a checkpoint as a version of xlsr-sls that can be served."""
    if not run_id:
        raise ValueError("run_id: found nothing, expected the id of a training run")
    source = resolve_model(run.client, f"runs:/{run_id}/epoch_{epoch}" if epoch else f"runs:/{run_id}")
    version = register_version(run.client, run.experiment_id, source, stage or "staging", recipe=recipe)
    run.set_tags({**source.tags(), "model_version": version.version, "recipe": version.recipe})
    console.print(
        f"Registered {source.uri} as {version.uri} (recipe {version.recipe}, stage {stage or 'staging'})"
    )


if __name__ == "__main__":
    register()
