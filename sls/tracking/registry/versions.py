"""The model registry: versions of `xlsr-sls`, of our checkpoints and of those that others trained."""

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import RESOURCE_ALREADY_EXISTS, ErrorCode, MlflowException

from sls.engine.evaluation.calibration import load_calibration
from sls.files import scratch_directory
from sls.models.checkpoints import load_checkpoint
from sls.serving.bundle import save_served_model, served_digest
from sls.tracking.artifacts import open_artifacts, upload_directory
from sls.tracking.registry.checkpoints import ModelSource, log_checkpoint, resolve_model
from sls.tracking.registry.lineage import link_checkpoint, read_lineage
from sls.tracking.registry.model_card import write_card
from sls.tracking.registry.stages import PRODUCTION, STAGES, check_stage, move_stage, point_alias
from sls.tracking.run import HANDLE_TAG, MAX_TAG_LENGTH, TrackedRun
from sls.tracking.store import REGISTERED_MODEL_NAME, find_active_run, find_versions
from sls.tracking.tags import BUNDLE_TAG, CHECKPOINT_TAG, CORPUS_TAG, STAGE_TAG


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
    """Registers a checkpoint as a version, which can be served, and points `recipe-NAME` at it (`point_alias`).

    A new version is there with all that it holds before a name points at it. What a process that was killed has left
    of the same registration is taken up and completed; done again, it finds the version that is there.

    The served model is kept in the experiment. The stage is a tag; production takes the place of the version there.
    The recipe is by default the one that the checkpoint was trained by. A calibration, as JSON, turns its scores into
    log-likelihood ratios when it is served.

    Raises:
        FileNotFoundError: there is no such calibration.
        ValueError: an unknown stage, or a file that is no checkpoint or no calibration.
    """
    check_stage(stage)
    recipe = recipe or source.recipe
    loaded = load_checkpoint(source.path, place=source.uri)
    heard_s = loaded.info.num_samples / loaded.info.sample_rate_hz
    fitted = load_calibration(calibration) if calibration is not None else None
    model_id = _keep_served_model(
        client, experiment, source, served_digest(loaded.digest, calibration), calibration
    )
    lineage = read_lineage(client, source.model_id, source.train_run_id)
    _ensure_registered_model(client)
    # A version enters production by the move below, which makes room there.
    begun = STAGES[0] if stage == PRODUCTION else stage
    version = _find_version(client, model_id, recipe, {begun, stage}) or client.create_model_version(
        REGISTERED_MODEL_NAME,
        source=f"models:/{model_id}",
        model_id=model_id,
        description=write_card(lineage, recipe, source.epoch, heard_s, fitted),
        tags={
            "recipe": recipe,
            STAGE_TAG: begun,
            "epoch": source.epoch,
            "run_id": source.train_run_id,
            CHECKPOINT_TAG: source.model_id,
            **({CORPUS_TAG: lineage.train_corpus} if lineage.train_corpus else {}),
            **lineage.eer_tags(),
            **(tags or {}),
        },
    )
    number = str(version.version)
    if recipe:
        point_alias(client, f"recipe-{recipe}", number)
    if stage == PRODUCTION:
        move_stage(client, number, stage)
    link_checkpoint(client, lineage)
    return RegisteredVersion(number, recipe, source.epoch, f"models:/{REGISTERED_MODEL_NAME}/{number}")


def track_import(
    run: TrackedRun, checkpoint: str, recipe: str, stage: str, *, xlsr: str, source: str, licence: str
) -> RegisteredVersion:
    """Reads a published checkpoint, records it as ours and registers it as a version of `xlsr-sls`.

    One that another run has imported from the same file, with the same words, is taken from there, as whole as it is.

    The checkpoint is a file or a hub reference, hf://owner/repo/file; `xlsr` is the pre-trained XLS-R that it started
    from, where the shapes do not tell its configuration. By default its source is its own name, and its licence
    unknown.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no SLS countermeasure, or its weights do not fit.
    """
    loaded = load_checkpoint(checkpoint, xlsr=xlsr or None)
    told = {"source": source or checkpoint, "licence": licence or "unknown"}
    origin = {name: text[:MAX_TAG_LENGTH] for name, text in told.items()}
    tags = {**origin, "source_sha256": loaded.digest}
    run.set_tags({"recipe": recipe, **tags})
    run.suggest_name(f"import_checkpoint {recipe}")
    begun = _find_import(run, {"recipe": recipe, **tags})
    made_by = str(begun.source_run_id) if begun else run.run_id
    provenance = {**loaded.info.provenance, **tags}
    info = dataclasses.replace(loaded.info, recipe=recipe, run_id=made_by, provenance=provenance)
    model_id = log_checkpoint(run, loaded.model, info, tags, begun.tags[HANDLE_TAG] if begun else "")
    with scratch_directory() as directory:
        found = resolve_model(run.client, f"models:/{model_id}", directory)
        return register(run.client, run.experiment_id, found, stage, recipe, tags)


def _find_import(run: TrackedRun, tags: Mapping[str, str]) -> LoggedModel | None:
    """Returns the checkpoint that an import of the same file has recorded or begun, unless its run is deleted."""
    same_file = f"tags.source_sha256 = '{tags['source_sha256']}'"
    for model in run.client.search_logged_models([run.experiment_id], same_file):
        is_same = tags.items() <= model.tags.items() and HANDLE_TAG in model.tags
        if is_same and find_active_run(run.client, str(model.source_run_id)):
            return model
    return None


def _keep_served_model(
    client: MlflowClient, experiment: str, source: ModelSource, content: str, calibration: Path | None
) -> str:
    """Returns the id of the LoggedModel that holds the bundle to serve, written to the artifact store if need be.

    One that is there, whole or not, is found by the digest of what the bundle holds.
    """
    known = client.search_logged_models([experiment], f"tags.{BUNDLE_TAG} = '{content}'", max_results=1)
    kept = next(iter(known), None) or client.create_logged_model(
        experiment,
        name="served",
        source_run_id=source.train_run_id or None,
        tags={
            "recipe": source.recipe,
            "epoch": source.epoch,
            "calibrated": str(calibration is not None).lower(),
            BUNDLE_TAG: content,
        },
        model_type="pyfunc",
    )
    if kept.status != LoggedModelStatus.READY:
        with scratch_directory() as directory:
            save_served_model(directory / "model", source.path, calibration)
            upload_directory(open_artifacts(client, kept.artifact_location), directory / "model")
        client.finalize_logged_model(kept.model_id, LoggedModelStatus.READY)
    return str(kept.model_id)


def _find_version(
    client: MlflowClient, model_id: str, recipe: str, stages: Collection[str]
) -> ModelVersion | None:
    """Returns the newest version of a bundle and a recipe in one of some stages, if there is one."""
    found = [
        item
        for item in find_versions(client)
        if item.source == f"models:/{model_id}"
        and item.tags.get("recipe", "") == recipe
        and item.tags.get(STAGE_TAG) in stages
    ]
    return max(found, key=lambda item: int(item.version), default=None)


def _ensure_registered_model(client: MlflowClient) -> None:
    try:
        client.create_registered_model(
            REGISTERED_MODEL_NAME, description="XLS-R + SLS countermeasure against audio deepfakes."
        )
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
