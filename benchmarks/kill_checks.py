"""What a tracking server holds of trainings, scorings and versions, in a form that two of them can be compared in."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run

from sls.tracking.store import EXPERIMENT_NAME, REGISTERED_MODEL_NAME
from sls.tracking.training.training_run import CONFIG_FILE

_MEASURED = ("per_second", "duration", "_s", "system/", "memory")
"""In the names of metrics whose values depend on the machine."""
_OF_A_RESUME = "environment_resumed.json"
_KEPT_TAGS = ("chosen_epoch", "chosen_by", "recipe", "stage", "epoch")


def find_runs(client: MlflowClient, kind: str = "", known: Iterable[str] = ()) -> list[Run]:
    """Returns the runs of a door, by its module or all, that are not known, the oldest first."""
    experiment = client.get_experiment_by_name(EXPERIMENT_NAME)
    if experiment is None:
        return []
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
    named = [run for run in runs if run.info.run_id not in set(known)]
    return [run for run in named if kind in run.data.tags.get("mlflow.source.name", "")]


def has_begun(client: MlflowClient, run: Run) -> bool:
    """Whether a training recorded its configuration, without which it can only be started anew."""
    return CONFIG_FILE in [item.path for item in client.list_artifacts(run.info.run_id)]


def describe_training(client: MlflowClient, run: Run, directory: Path) -> dict[str, Any]:
    """Returns all that a training leaves and no clock decides: by name, what two of the same must agree in."""
    found: dict[str, Any] = {"status": run.info.status}
    found |= {f"param {name}": value for name, value in run.data.params.items()}
    found |= {f"tag {name}": run.data.tags.get(name) for name in _KEPT_TAGS}
    for name in run.data.metrics:
        points = client.get_metric_history(run.info.run_id, name)
        is_measured = any(part in name for part in _MEASURED)
        found[f"metric {name}"] = sorted(
            (point.step, None if is_measured else point.value) for point in points
        )
    outputs = run.outputs.model_outputs if run.outputs else []
    models = [client.get_logged_model(output.model_id) for output in outputs]
    found["models"] = sorted(model.name for model in models)
    for model in models:
        files = client.list_logged_model_artifacts(model.model_id)
        weights = {item.path: _digest_model(model.model_id, item.path, directory) for item in files}
        measures = sorted((item.key, item.step, item.value) for item in model.metrics or [])
        measures = [item for item in measures if not any(part in item[0] for part in _MEASURED)]
        found[f"model {model.name}, status"] = str(model.status)
        found[f"model {model.name}, weights"] = weights
        found[f"model {model.name}, metrics"] = measures
    logged = client.search_logged_models([run.info.experiment_id])
    found["models of the run"] = sorted(
        model.name for model in logged if model.source_run_id == run.info.run_id
    )
    found["artifacts"] = sorted({*list_artifacts(client, run.info.run_id)} - {_OF_A_RESUME})
    return found


def describe_registry(client: MlflowClient) -> dict[str, Any]:
    """Returns the versions and aliases of the registered model, and how many models the store has of each status."""
    registered = client.search_registered_models(f"name = '{REGISTERED_MODEL_NAME}'")
    versions = client.search_model_versions(f"name = '{REGISTERED_MODEL_NAME}'") if registered else []
    found: dict[str, Any] = {
        f"version {version.version}": (
            version.status,
            {name: version.tags.get(name) for name in _KEPT_TAGS},
            bool(version.description),
        )
        for version in versions
    }
    found["versions"] = len(versions)
    found["aliases"] = {name: value for model in registered for name, value in model.aliases.items()}
    experiment = client.get_experiment_by_name(EXPERIMENT_NAME)
    logged = client.search_logged_models([experiment.experiment_id]) if experiment else []
    found["models"] = dict(Counter(str(model.status) for model in logged))
    return found


def list_artifacts(client: MlflowClient, run_id: str, under: str = "") -> Iterator[str]:
    """Yields the artifacts of a run, below its directories too."""
    for item in client.list_artifacts(run_id, under or None):
        if item.is_dir:
            yield from list_artifacts(client, run_id, item.path)
        else:
            yield item.path


def check_ends(runs: Iterable[Run], door: str) -> Iterator[str]:
    """Yields where runs of a door are left at work, or where none has finished."""
    runs = list(runs)
    for run in runs:
        if run.info.status in ("RUNNING", "SCHEDULED"):
            yield f"{door}: run {run.info.run_id} is left {run.info.status}"
    if not any(run.info.status == "FINISHED" for run in runs):
        yield f"{door}: no run is FINISHED, of {[run.info.status for run in runs]}"


def compare(found: dict[str, Any], expected: dict[str, Any]) -> Iterator[str]:
    """Yields what is lost, doubled, or otherwise than without a kill."""
    for name in sorted({*found, *expected}):
        if found.get(name) != expected.get(name):
            yield f"{name}: found {_short(found.get(name))}, expected {_short(expected.get(name))}"


def _digest_model(model_id: str, path: str, directory: Path) -> str:
    """Hashes the tensors of weights, or the bytes of another file."""
    downloaded = mlflow.artifacts.download_artifacts(
        f"models:/{model_id}", dst_path=str(directory / model_id)
    )
    file = Path(downloaded, path)
    digest = hashlib.sha256()
    if file.suffix == ".safetensors":
        from safetensors.numpy import load_file

        for name, tensor in sorted(load_file(file).items()):
            digest.update(name.encode() + tensor.tobytes())
    else:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}..."
