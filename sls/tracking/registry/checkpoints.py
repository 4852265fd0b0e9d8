"""Checkpoints in the tracking store: one LoggedModel for each epoch, and the way back from a name to a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus, Run
from mlflow.exceptions import MlflowException
from mlflow.utils.uri import is_local_uri

from sls.files import check_is_file
from sls.tracking.artifacts import download
from sls.tracking.offline.server_calls import is_refusal
from sls.tracking.run import TrackedRun
from sls.tracking.store import REGISTERED_MODEL_NAME, find_versions, get_run
from sls.tracking.tags import (
    AVERAGE_TAG,
    CHECKPOINT_TAG,
    CHOSEN_EPOCH_TAG,
    MODEL_TAGS,
    WEIGHTS_DELETED,
    WEIGHTS_TAG,
)

if TYPE_CHECKING:  # they load PyTorch, for which doors without neural work are not to wait
    from sls.models.checkpoints import CheckpointInfo
    from sls.models.countermeasure import Countermeasure

CHECKPOINT_FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class FoundModel:
    """A checkpoint that a user named, before its file is at hand; what is not known is empty."""

    uri: str
    """What the user named, resolved: models:/xlsr-sls/3, runs:/RUN_ID/epoch_2, or a path."""
    artifacts: str = ""
    """URI of the directory that holds the file; empty for a file, which is its own `uri`."""
    location: str = ""
    """Where the artifact store keeps that directory."""
    train_run_id: str = ""
    epoch: str = ""
    recipe: str = ""
    model_id: str = ""
    """The checkpoint's LoggedModel, to which metrics are tied."""
    version: str = ""
    has_weights: bool = True
    """False for an epoch whose weights were not kept."""

    def tags(self) -> dict[str, str]:
        """Returns what a scoring or evaluation run says of its model."""
        values = (self.uri, self.train_run_id, self.epoch, self.recipe, self.model_id, self.version)
        return {name: value for name, value in zip(MODEL_TAGS, values, strict=True) if value}


@dataclass(frozen=True, kw_only=True)
class ModelSource(FoundModel):
    """A checkpoint whose file is at hand."""

    path: Path


def epoch_name(epoch: int | str) -> str:
    """Returns the name of an epoch's LoggedModel; that of a mean of epochs is its name already."""
    return f"epoch_{epoch}" if str(epoch).isdecimal() else str(epoch)


def average_name(epochs: Sequence[int]) -> str:
    """Returns the name of the LoggedModel of a mean of epochs, which stands where the number of one does."""
    return "_".join(["average", *map(str, sorted(epochs))])


def epochs_of(name: str) -> tuple[int, ...]:
    """Returns the epochs that such a name is made of, or the one that a number says."""
    return tuple(int(word) for word in name.removeprefix("average_").split("_"))


def tell_epoch(epoch: int | str) -> str:
    """Returns how a person reads an epoch, or a mean of some: `epoch 3`, `average_1_3`."""
    return epoch_name(epoch).replace("epoch_", "epoch ")


def log_checkpoint(
    run: TrackedRun, model: Countermeasure, info: CheckpointInfo, tags: Mapping[str, str], handle: str = ""
) -> str:
    """Records a checkpoint as a LoggedModel; its weights are written once.

    The handle is that of a LoggedModel that a run which was cut off has begun; empty for a new one. Returns what
    `run.log_model` does.
    """
    from sls.models.checkpoints import save_checkpoint

    known = {"recipe": info.recipe, "epoch": None if info.epoch is None else str(info.epoch), **tags}
    given = {name: str(value) for name, value in known.items() if value}
    params = {name: value for name, value in given.items() if name in ("recipe", "epoch", AVERAGE_TAG)}
    name = epoch_name(given["epoch"]) if "epoch" in given else "imported"
    with run.staging() as directory:
        save_checkpoint(directory / CHECKPOINT_FILE, model, info)
        return run.log_model(name, info.epoch or 0, given, params, files=directory, handle=handle)


def resolve_model(client: MlflowClient, name: str, directory: Path | None = None) -> ModelSource:
    """Finds the checkpoint that a user names, and its file.

    Args:
        client: The tracking store.
        name: `models:/xlsr-sls@recipe-v1`, `models:/xlsr-sls/3`, `models:/MODEL_ID`, `runs:/RUN_ID` (the epoch that
            its recipe chose), `runs:/RUN_ID/epoch_2`, or a file; empty for the champion.
        directory: Where to download a checkpoint from a tracking server, for a caller that removes it after
            use; None for a temporary place that stays.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no such version, alias, run or epoch, or its weights were not kept; the message says
            what there is.
    """
    found = find_model(client, name)
    return ModelSource(**vars(found), path=_fetch(found, directory))


def find_model(client: MlflowClient, name: str) -> FoundModel:
    """Finds the checkpoint that a user names, as `resolve_model` does, and downloads nothing."""
    name = name or f"models:/{REGISTERED_MODEL_NAME}@champion"
    if name.startswith("models:/m-"):
        model_id = name.removeprefix("models:/")
        try:
            return _from_logged_model(client.get_logged_model(model_id), name)
        except MlflowException as error:
            if not is_refusal(error):
                raise
            raise ValueError(f"model: the tracking store has no model {model_id}") from error
    if name.startswith("models:/"):
        return _from_registry(client, name)
    if name.startswith("runs:/"):
        return _from_run(client, name)
    check_is_file(Path(name), "model", "a checkpoint, runs:/RUN_ID/epoch_N or models:/NAME@ALIAS")
    return FoundModel(name)


def log_average(
    run: TrackedRun,
    model: Countermeasure,
    info: CheckpointInfo,
    epochs: Sequence[int],
    tags: Mapping[str, str],
) -> str:
    """Records the mean of some epochs as a LoggedModel of its own, which says which; as `log_checkpoint` does."""
    of_epochs = ", ".join(map(str, sorted(epochs)))
    averaged = replace(info, epoch=None, provenance={**info.provenance, AVERAGE_TAG: of_epochs})
    own = {"epoch": average_name(epochs), AVERAGE_TAG: of_epochs}
    return log_checkpoint(run, model, averaged, {**tags, **own})


def checkpoints_of(client: MlflowClient, run: Run) -> dict[int, LoggedModel]:
    """Returns a training run's finished checkpoints by epoch."""
    found = named_checkpoints(client, run)
    return {int(epoch): model for epoch, model in found.items() if epoch.isdecimal()}


def named_checkpoints(client: MlflowClient, run: Run) -> dict[str, LoggedModel]:
    """Returns a training run's finished checkpoints by epoch, and those of means of epochs by their names."""
    outputs = run.outputs.model_outputs if run.outputs else []
    models = [client.get_logged_model(output.model_id) for output in outputs]
    return {
        model.tags["epoch"]: model
        for model in sorted(models, key=lambda model: model.creation_timestamp)
        if model.status == LoggedModelStatus.READY and "epoch" in model.tags
    }


def has_weights(checkpoint: LoggedModel) -> bool:
    """Whether the weights of a checkpoint were kept."""
    return bool(checkpoint.tags.get(WEIGHTS_TAG) != WEIGHTS_DELETED)


def _from_registry(client: MlflowClient, uri: str) -> FoundModel:
    match = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", uri)
    if match is None:
        raise ValueError(
            f"model: found {uri}, expected models:/NAME@ALIAS, models:/NAME/VERSION or models:/m-MODEL_ID"
        )
    name, alias, number = match.groups()
    try:
        version = (
            client.get_model_version_by_alias(name, alias)
            if alias
            else client.get_model_version(name, number)
        )
    except MlflowException as error:
        if not is_refusal(error):
            raise
        raise ValueError(
            f"model: the registry has no {uri} ({_what_registry_has(client, name)}); "
            "train and register one first, or name a file"
        ) from error
    resolved = f"models:/{name}/{version.version}"
    return FoundModel(
        resolved,
        resolved,
        client.get_model_version_download_uri(name, version.version),
        version.tags.get("run_id", ""),
        version.tags.get("epoch", ""),
        version.tags.get("recipe", ""),
        version.tags.get(CHECKPOINT_TAG, ""),
        str(version.version),
    )


def _what_registry_has(client: MlflowClient, name: str) -> str:
    versions = find_versions(client, name)
    if not versions:
        return f"it has no versions of {name}"
    aliases = sorted(client.get_registered_model(name).aliases)
    numbers = sorted(int(version.version) for version in versions)
    return f"it has versions {', '.join(map(str, numbers))} and aliases {', '.join(aliases) or 'none'}"


def _from_run(client: MlflowClient, uri: str) -> FoundModel:
    match = re.fullmatch(r"runs:/([0-9a-f]+)(?:/(?:epoch_(\d+)|(average(?:_\d+)+)))?", uri)
    if match is None:
        raise ValueError(f"model: found {uri}, expected runs:/RUN_ID or runs:/RUN_ID/epoch_N")
    run_id, number, name = match.groups()
    run = get_run(client, run_id, "model")
    models = named_checkpoints(client, run)
    have = [int(epoch) if epoch.isdecimal() else epoch for epoch in models]
    there = sorted(have, key=lambda epoch: (isinstance(epoch, str), epoch)) or "none"
    epoch = name or (str(int(number)) if number else run.data.tags.get(CHOSEN_EPOCH_TAG))
    if epoch is None:
        raise ValueError(
            f"model: run {run_id} has chosen no epoch, expected a training run that ended or runs:/RUN_ID/epoch_N; "
            f"it has checkpoints of {there}"
        )
    if epoch not in models:
        raise ValueError(f"model: run {run_id} has no checkpoint of {tell_epoch(epoch)}; it has {there}")
    return _from_logged_model(models[epoch], f"runs:/{run_id}/{epoch_name(epoch)}")


def _from_logged_model(model: LoggedModel, uri: str) -> FoundModel:
    return FoundModel(
        uri,
        f"models:/{model.model_id}",
        model.artifact_location,
        model.source_run_id or "",
        model.tags.get("epoch", ""),
        model.tags.get("recipe", ""),
        model.model_id,
        has_weights=has_weights(model),
    )


def _fetch(model: FoundModel, directory: Path | None) -> Path:
    if not model.artifacts:
        return Path(model.uri)
    if not model.has_weights:
        raise ValueError(f"model: the weights of {model.uri} were not kept; name another epoch of the run")
    # What lies on this machine is used where it lies.
    held = download(model.artifacts, None if is_local_uri(model.location) else directory)
    files = sorted(held.rglob("*.safetensors"))
    if len(files) != 1:
        raise ValueError(f"model: {model.uri} holds {len(files)} safetensors files, expected one")
    return files[0]
