"""The model registry: versions of `xlsr-sls`, told apart by tags and aliases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import RESOURCE_ALREADY_EXISTS, ErrorCode, MlflowException

from sls.models.checkpoints import load_checkpoint
from sls.tracking.checkpoints import ModelSource
from sls.tracking.lineage import link_checkpoint
from sls.tracking.model_card import is_default_subset, newest_evaluations, renew_evaluations, write_card
from sls.tracking.served_model import log_served_model
from sls.tracking.stages import (
    CHAMPION,
    PRODUCTION,
    STAGES,
    Champion,
    all_versions,
    appoint_champion,
    check_stage,
    choose_champion,
    eer_tag,
    key_tag,
    move_stage,
)
from sls.tracking.store import REGISTERED_MODEL_NAME

__all__ = [
    "CHAMPION",
    "STAGES",
    "Champion",
    "RegisteredVersion",
    "appoint_champion",
    "check_calibration",
    "choose_champion",
    "eer_tag",
    "evaluated_eer_tags",
    "move_stage",
    "note_evaluation",
    "register",
]


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
    calibration: Path | None = None,
) -> RegisteredVersion:
    """Registers a checkpoint as a new version, which can be served, and points `recipe-NAME` at it.

    Args:
        client: the tracking store.
        experiment: where the served model is kept.
        source: the checkpoint.
        stage: staging, production or archived, a tag; production takes the place of the version there.
        recipe: name of the recipe; empty for the one that the checkpoint was trained by.
        tags: further tags of the version.
        calibration: what turns its scores into log-likelihood ratios when it is served, as JSON.

    Raises:
        FileNotFoundError: there is no such calibration.
        ValueError: an unknown stage, or a file that is no checkpoint or no calibration.
    """
    check_stage(stage)
    recipe = recipe or source.recipe
    info = load_checkpoint(source.path).info
    model_id = log_served_model(client, experiment, source, calibration)
    heard_s = info.num_samples / info.sample_rate_hz
    card = write_card(client, source, recipe, heard_s, is_calibrated=calibration is not None)
    _ensure_registered_model(client)
    version = client.create_model_version(
        REGISTERED_MODEL_NAME,
        source=f"models:/{model_id}",
        run_id=source.train_run_id or None,
        model_id=model_id,
        description=card,
        tags={
            "recipe": recipe,
            # A version enters production by the move below, which makes room there.
            "stage": STAGES[0] if stage == PRODUCTION else stage,
            "epoch": source.epoch,
            "run_id": source.train_run_id,
            "checkpoint_model_id": source.model_id,
            **evaluated_eer_tags(client, source.model_id),
            **dict(tags or {}),
        },
    )
    if recipe:
        client.set_registered_model_alias(REGISTERED_MODEL_NAME, f"recipe-{recipe}", version.version)
    if stage == PRODUCTION:
        move_stage(client, str(version.version), stage)
    link_checkpoint(client, source.model_id, source.train_run_id)
    return RegisteredVersion(
        str(version.version), recipe, source.epoch, f"models:/{REGISTERED_MODEL_NAME}/{version.version}"
    )


def check_calibration(client: MlflowClient, name: str, source: ModelSource) -> None:
    """Checks that the run that fitted a calibration, where a run is named, evaluated this very checkpoint.

    Raises:
        ValueError: it evaluated another one, whose scores are on another scale.
    """
    if not name or Path(name).is_file():
        return
    try:
        fitted_on = client.get_run(name).data.tags.get("model_id", "")
    except MlflowException:
        raise ValueError(
            f"calibration: found {name}, expected a JSON file or the id of an evaluation run"
        ) from None
    if fitted_on and source.model_id and fitted_on != source.model_id:
        raise ValueError(
            f"calibration: run {name} evaluated {fitted_on}, expected an evaluation of {source.uri} "
            f"({source.model_id})"
        )


def _ensure_registered_model(client: MlflowClient) -> None:
    try:
        client.create_registered_model(
            REGISTERED_MODEL_NAME, description="XLS-R + SLS countermeasure against audio deepfakes."
        )
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise


def note_evaluation(
    client: MlflowClient, checkpoint_model_id: str, track: str, metrics: Mapping[str, float], key_sha256: str
) -> None:
    """Writes a track's EER, and the key it is of, on each registered version of a checkpoint and into its card."""
    for version in all_versions(client):
        if version.tags.get("checkpoint_model_id") != checkpoint_model_id:
            continue
        values = {eer_tag(track): f"{metrics['eer_percent']:.4f}", key_tag(track): key_sha256}
        for name, value in values.items():
            client.set_model_version_tag(REGISTERED_MODEL_NAME, version.version, name, value)
        card = version.description or ""
        renewed = renew_evaluations(client, card, checkpoint_model_id, version.tags.get("run_id", ""))
        if renewed != card:
            client.update_model_version(REGISTERED_MODEL_NAME, version.version, renewed)


def evaluated_eer_tags(client: MlflowClient, checkpoint_model_id: str) -> dict[str, str]:
    """Returns the version tags for all evaluations of a checkpoint so far: the newest of each track.

    Evaluations of other subsets than the track's own are left out, as `note_evaluation` is not called for them.
    """
    runs = newest_evaluations(client, checkpoint_model_id)
    tags = {}
    for run in sorted(runs, key=lambda run: run.info.start_time):
        track = run.data.tags["track"]
        is_whole = run.data.metrics.get(f"{track}/coverage_percent", 100) == 100
        if is_whole and is_default_subset(track, run.data.tags.get("subset", "")):
            tags[eer_tag(track)] = f"{run.data.metrics[f'{track}/eer_percent']:.4f}"
            if "key_sha256" in run.data.tags:
                tags[key_tag(track)] = run.data.tags["key_sha256"]
    return tags
