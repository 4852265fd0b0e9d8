"""The model registry: versions of `xlsr-sls`, told apart by tags and aliases."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import RESOURCE_ALREADY_EXISTS, ErrorCode, MlflowException

from sls.config import PROJECT_ROOT
from sls.tracking import pyfunc
from sls.tracking.checkpoints import ModelSource
from sls.tracking.runs import run_link, scratch_directory
from sls.tracking.store import REGISTERED_MODEL_NAME

STAGES = ("staging", "production", "archived")
CHAMPION = "champion"
# The champion is the best version on this track: the largest, and the one whose attacks training has not seen.
CHAMPION_TRACK = "DF"
# What the served model imports, and no more.
SERVING_PACKAGES = (
    "mlflow",
    "torch",
    "torchaudio",
    "numpy",
    "scipy",
    "pandas",
    "safetensors",
    "huggingface-hub",
    "soundfile",
    "av",
    "soxr",
    "pyyaml",
)


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of the registered model."""

    version: str
    recipe: str
    epoch: str
    uri: str
    """models:/xlsr-sls/VERSION"""


def register(
    client: MlflowClient,
    experiment: str,
    source: ModelSource,
    stage: str,
    recipe: str = "",
    tags: Mapping[str, str] | None = None,
) -> RegisteredVersion:
    """Registers a checkpoint as a new version, which can be served, and points `recipe-NAME` at it.

    Args:
        client: the tracking store.
        experiment: where the served model is kept.
        source: the checkpoint.
        stage: staging, production or archived, a tag.
        recipe: name of the recipe; empty for the one that the checkpoint was trained by.
        tags: further tags of the version.

    Raises:
        ValueError: an unknown stage.
    """
    if stage not in STAGES:
        raise ValueError(f"stage: found {stage}, expected one of {', '.join(STAGES)}")
    recipe = recipe or source.recipe
    model_id = _log_served_model(client, experiment, source)
    _ensure_registered_model(client)
    version = client.create_model_version(
        REGISTERED_MODEL_NAME,
        source=f"models:/{model_id}",
        run_id=source.train_run_id or None,
        model_id=model_id,
        description=_describe(client, source, recipe),
        tags={
            "recipe": recipe,
            "stage": stage,
            "epoch": source.epoch,
            "run_id": source.train_run_id,
            "checkpoint_model_id": source.model_id,
            **evaluated_eer_tags(client, source.model_id),
            **dict(tags or {}),
        },
    )
    if recipe:
        client.set_registered_model_alias(REGISTERED_MODEL_NAME, f"recipe-{recipe}", version.version)
    return RegisteredVersion(
        str(version.version), recipe, source.epoch, f"models:/{REGISTERED_MODEL_NAME}/{version.version}"
    )


@dataclass(frozen=True)
class Champion:
    """The version that a policy prefers, and why."""

    version: str
    reason: str


def choose_champion(client: MlflowClient, track: str = CHAMPION_TRACK) -> Champion:
    """Chooses the version with the lowest EER on a track, the newer one of equals.

    Raises:
        ValueError: no version has been evaluated on that track.
    """
    versions = client.search_model_versions(f"name='{REGISTERED_MODEL_NAME}'")
    tag = eer_tag(track)
    evaluated = {
        int(version.version): float(version.tags[tag]) for version in versions if tag in version.tags
    }
    if not evaluated:
        raise ValueError(f"champion: no version of {REGISTERED_MODEL_NAME} has been evaluated on {track}")
    best = min(evaluated, key=lambda version: (evaluated[version], -version))
    reason = (
        f"version {best} has the lowest EER on {track}, {evaluated[best]:.2f} %, "
        f"of {len(evaluated)} evaluated versions"
    )
    return Champion(str(best), reason)


def appoint_champion(client: MlflowClient, version: str) -> None:
    """Points the alias `champion` at a version."""
    client.set_registered_model_alias(REGISTERED_MODEL_NAME, CHAMPION, version)


def serving_requirements() -> list[str]:
    """Returns the pinned packages that serving needs, as they are installed here."""
    return [f"{name}=={importlib.metadata.version(name)}" for name in SERVING_PACKAGES]


def _describe(client: MlflowClient, source: ModelSource, recipe: str) -> str:
    lines = [f"Recipe {recipe or 'unknown'}, epoch {source.epoch or 'unknown'}."]
    if source.train_run_id:
        lines.append(f"Training: {run_link(client.get_run(source.train_run_id))}")
    return "  \n".join(lines)


def _log_served_model(client: MlflowClient, experiment: str, source: ModelSource) -> str:
    logged = client.create_logged_model(
        experiment,
        name="served",
        source_run_id=source.train_run_id or None,
        tags={"recipe": source.recipe, "epoch": source.epoch},
        model_type="pyfunc",
    )
    with scratch_directory() as directory:
        path = directory / "model"
        code = shutil.copytree(
            PROJECT_ROOT / "sls", directory / "sls", ignore=shutil.ignore_patterns("__pycache__")
        )
        mlflow.pyfunc.save_model(
            path=str(path),
            python_model=str(Path(pyfunc.__file__)),
            artifacts={"checkpoint": str(source.path)},
            code_paths=[str(code)],
            signature=pyfunc.SIGNATURE,
            pip_requirements=serving_requirements(),
        )
        client.log_model_artifacts(logged.model_id, str(path))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    return str(logged.model_id)


def _ensure_registered_model(client: MlflowClient) -> None:
    try:
        client.create_registered_model(
            REGISTERED_MODEL_NAME, description="XLS-R + SLS countermeasure against audio deepfakes."
        )
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise


def eer_tag(track: str) -> str:
    """Returns the name of the version tag that holds a track's EER in percent."""
    return f"{track}.eer_percent"


def note_evaluation(
    client: MlflowClient, checkpoint_model_id: str, track: str, metrics: Mapping[str, float]
) -> None:
    """Writes a track's EER on each registered version of a checkpoint."""
    for version in client.search_model_versions(f"name='{REGISTERED_MODEL_NAME}'"):
        if version.tags.get("checkpoint_model_id") == checkpoint_model_id:
            client.set_model_version_tag(
                REGISTERED_MODEL_NAME, version.version, eer_tag(track), f"{metrics['eer_percent']:.4f}"
            )


def evaluated_eer_tags(client: MlflowClient, checkpoint_model_id: str) -> dict[str, str]:
    """Returns the version tags for all evaluations of a checkpoint so far, the newest of each track."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(
        experiments,
        f"tags.kind = 'evaluate' and tags.model_id = '{checkpoint_model_id}' and attributes.status = 'FINISHED'",
        order_by=["attributes.end_time ASC"],
    )
    return {
        eer_tag(run.data.tags["track"]): f"{run.data.metrics[run.data.tags['track'] + '/eer_percent']:.4f}"
        for run in runs
    }
