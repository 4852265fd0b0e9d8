"""One tracked run: what it records, and how it ends.

A run ends FINISHED, FAILED with the error as a tag, or KILLED; it is never left RUNNING by a process that could
still speak.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from sls.config import Config
from sls.data.protocols import Protocol
from sls.tracking import provenance
from sls.tracking.store import connect, experiment_id

logger = logging.getLogger(__name__)

MAX_TAG_LENGTH = 4_000
MAX_PARAM_LENGTH = 4_000
MAX_PARAMS_IN_A_CALL = 100
# MLflow's databases hold 36 characters of a digest.
DATASET_DIGEST_LENGTH = 32


class Terminated(BaseException):
    """SIGTERM arrived; not an Exception, so that no handler of ordinary errors swallows it."""


class TrackedRun:
    """A run on the tracking server, by which everything is recorded."""

    def __init__(self, client: MlflowClient, run_id: str, experiment: str) -> None:
        self.client = client
        self.run_id = run_id
        self.experiment_id = experiment

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Sets tags; values are cut at what every store can hold."""
        entries = [RunTag(key, str(value)[:MAX_TAG_LENGTH]) for key, value in tags.items()]
        self.client.log_batch(self.run_id, tags=entries)

    def log_config(self, config: Config) -> None:
        """Records the whole configuration: as parameters `cfg/NAME`, and as `config.yaml` to run it again.

        The prefix keeps them apart from the parameters that `mlflow run` records as they were typed.
        """
        flat = config.to_flat()
        params = [Param(f"cfg/{name}", str(value)[:MAX_PARAM_LENGTH]) for name, value in flat.items()]
        for start in range(0, len(params), MAX_PARAMS_IN_A_CALL):
            self.client.log_batch(self.run_id, params=params[start : start + MAX_PARAMS_IN_A_CALL])
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in flat.items()}
        self.log_text(yaml.safe_dump(plain, sort_keys=False), "config.yaml")

    def log_metrics(
        self,
        metrics: Mapping[str, float],
        step: int = 0,
        model_id: str | None = None,
        dataset: Dataset | None = None,
    ) -> None:
        """Records metrics, tied to a checkpoint (`model_id`) and a dataset where given."""
        now_ms = int(time.time() * 1000)
        entries = [
            Metric(
                key,
                float(value),
                now_ms,
                step,
                model_id=model_id,
                dataset_name=dataset.name if dataset else None,
                dataset_digest=dataset.digest if dataset else None,
                run_id=self.run_id,
            )
            for key, value in metrics.items()
        ]
        self.client.log_batch(self.run_id, metrics=entries)

    def log_dataset(self, protocol: Protocol, name: str, context: str) -> Dataset:
        """Records a protocol or key as an MLflow dataset, with its digest and its counts."""
        dataset = Dataset(
            name=name,
            digest=protocol.digest[:DATASET_DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": str(protocol.source)}),
            profile=json.dumps({"trials": len(protocol), **protocol.counts()}),
        )
        tags = [InputTag("mlflow.data.context", context)]
        self.client.log_inputs(self.run_id, [DatasetInput(dataset, tags)])
        return dataset

    def log_text(self, text: str, name: str) -> None:
        """Records a text as an artifact."""
        self.client.log_text(self.run_id, text, name)

    def log_json(self, value: Any, name: str) -> None:
        """Records a value as a JSON artifact."""
        self.log_text(json.dumps(value, indent=2, default=str) + "\n", name)

    def log_file(self, path: Path, directory: str | None = None) -> None:
        """Records a file as an artifact."""
        self.client.log_artifact(self.run_id, str(path), directory)

    def log_directory(self, path: Path, directory: str | None = None) -> None:
        """Records all files of a directory as artifacts."""
        self.client.log_artifacts(self.run_id, str(path), directory)


@contextmanager
def tracked_run(
    kind: str, name: str | None = None, tags: Mapping[str, object] | None = None
) -> Iterator[TrackedRun]:
    """Opens a run for the duration of a `with` block.

    The run that `mlflow run` has opened (MLFLOW_RUN_ID) is taken over by the first call in a process.

    Args:
        kind: the door, recorded as the tag `kind`: train, score, evaluate and so on.
        name: the run's name; None leaves it to MLflow.
        tags: further tags.
    """
    client = connect()
    run = _open_run(client, kind, name)
    with _sigterm_raises():
        try:
            run.set_tags({"kind": kind, **provenance.code_tags(), **dict(tags or {})})
            environment = {"packages": provenance.package_versions(), "hardware": provenance.hardware()}
            run.log_json(environment, "environment.json")
            yield run
        except (KeyboardInterrupt, Terminated):
            _end(run, "KILLED", {"error": "stopped by a signal"})
            raise
        except BaseException as error:
            _end(run, "FAILED", {"error": one_line(error)})
            raise
    _end(run, "FINISHED")


def one_line(error: BaseException) -> str:
    """Returns an error's message as one line, or the name of its class where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def _open_run(client: MlflowClient, kind: str, name: str | None) -> TrackedRun:
    given = os.environ.pop("MLFLOW_RUN_ID", None)
    if given:
        client.update_run(given, status="RUNNING", name=name)
        return TrackedRun(client, given, client.get_run(given).info.experiment_id)
    experiment = experiment_id(client)
    created = client.create_run(experiment, run_name=name, tags={"mlflow.source.name": f"entrypoints.{kind}"})
    return TrackedRun(client, created.info.run_id, experiment)


def _end(run: TrackedRun, status: str, tags: Mapping[str, str] | None = None) -> None:
    """Ends a run; while an error is under way, a tracking server that fails must not hide that error."""
    if status == "FINISHED":
        run.client.set_terminated(run.run_id, status)
        return
    steps: list[Callable[[], object]] = [
        lambda: run.set_tags(tags or {}),
        lambda: run.log_text(traceback.format_exc(), "traceback.txt"),
        lambda: run.client.set_terminated(run.run_id, status),
    ]
    for step in steps:
        try:
            step()
        except Exception as error:  # whatever the server does, the next step is still tried
            logger.warning("run %s: could not be ended as %s: %s", run.run_id, status, one_line(error))


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Turns SIGTERM into `Terminated` in the main thread, so that `with` blocks close."""

    def on_sigterm(signum: int, frame: FrameType | None) -> None:
        raise Terminated

    try:
        previous = signal.signal(signal.SIGTERM, on_sigterm)
    except ValueError:
        # Not the main thread: signals are not ours to handle.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A directory for files on their way to the artifact store."""
    with tempfile.TemporaryDirectory(prefix="sls-") as path:
        yield Path(path)


def run_link(run: mlflow.entities.Run) -> str:
    """Returns the Markdown link to a run within the tracking UI."""
    return f"[{run.info.run_name}](#/experiments/{run.info.experiment_id}/runs/{run.info.run_id})"
