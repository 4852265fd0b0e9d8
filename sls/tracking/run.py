"""One tracked run: what it records, and how it ends.

A run ends FINISHED, FAILED with the error as a tag, or KILLED; it is never left RUNNING by a process that could
still speak.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.entities import Dataset

from sls.config import Config
from sls.data.tables.protocols import Protocol
from sls.tracking import provenance
from sls.tracking.offline.recorders import Recorder
from sls.tracking.offline.run_opening import open_recorder, opening_tags
from sls.tracking.offline.run_writer import RunTakenOver
from sls.tracking.signals import Terminated, sigterm_raises
from sls.tracking.store import connect

logger = logging.getLogger(__name__)

MAX_TAG_LENGTH = 4_000
MAX_PARAM_LENGTH = 4_000
# MLflow's databases hold 36 characters of a digest.
DATASET_DIGEST_LENGTH = 32


class TrackedRun:
    """A run on the tracking server, by which everything is recorded."""

    def __init__(self, client: MlflowClient, recorder: Recorder) -> None:
        self.client = client
        self.run_id = recorder.run_id
        self._recorder = recorder

    @property
    def experiment_id(self) -> str:
        """The run's experiment; empty where a server that is away has not made the run yet."""
        return self._recorder.experiment_id

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Sets tags; values are cut at what every store can hold."""
        self._recorder.record("tags", {key: str(value)[:MAX_TAG_LENGTH] for key, value in tags.items()})

    def log_config(self, config: Config) -> None:
        """Records the whole configuration: as parameters `cfg/NAME`, and as `config.yaml` to run it again.

        The prefix keeps them apart from the parameters that `mlflow run` records as they were typed.
        """
        flat = config.to_flat()
        params = {f"cfg/{name}": str(value)[:MAX_PARAM_LENGTH] for name, value in flat.items()}
        self._recorder.record("params", params)
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in flat.items()}
        self.log_text(yaml.safe_dump(plain, sort_keys=False), "config.yaml")

    def log_metrics(
        self,
        metrics: Mapping[str, float],
        step: int = 0,
        model_id: str | None = None,
        dataset: Dataset | None = None,
    ) -> None:
        """Records metrics, tied to a checkpoint (`model_id`, or its handle) and a dataset where given."""
        payload = {
            "metrics": {key: float(value) for key, value in metrics.items()},
            "timestamp_ms": int(time.time() * 1000),
            "step": step,
            "handle": model_id,
            "dataset_name": dataset.name if dataset else None,
            "dataset_digest": dataset.digest if dataset else None,
        }
        self._recorder.record("metrics", payload)

    def log_dataset(self, protocol: Protocol, name: str, context: str) -> Dataset:
        """Records a protocol or key as an MLflow dataset, with its digest and its counts."""
        return self.log_dataset_of(str(protocol.source), protocol.digest, protocol.counts(), name, context)

    def log_dataset_of(
        self, source: str, digest: str, counts: Mapping[str, int], name: str, context: str
    ) -> Dataset:
        """Records a protocol as `log_dataset` does, where no more than this is known of it."""
        dataset = Dataset(
            name=name,
            digest=digest[:DATASET_DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": source}),
            profile=json.dumps(dict(counts)),
        )
        self._recorder.record("dataset", {"dataset": dataset.to_dictionary(), "context": context})
        return dataset

    def log_text(self, text: str, name: str) -> None:
        """Records a text as an artifact."""
        path = PurePosixPath(name)
        with self.staging() as directory:
            (directory / path.name).write_text(text, encoding="utf-8")
            self._log_files(directory, str(path.parent))

    def log_json(self, value: Any, name: str) -> None:
        """Records a value as a JSON artifact."""
        self.log_text(json.dumps(value, indent=2, default=str) + "\n", name)

    def log_file(self, path: Path, directory: str | None = None) -> None:
        """Records a file, as it is now, as an artifact."""
        with self.staging() as staging:
            shutil.copy2(path, staging / path.name)
            self._log_files(staging, directory)

    def log_directory(self, path: Path, directory: str | None = None) -> None:
        """Records all files of a directory, as they are now, as artifacts."""
        with self.staging() as staging:
            shutil.copytree(path, staging, dirs_exist_ok=True)
            self._log_files(staging, directory)

    def replace_directory(self, path: Path, name: str) -> None:
        """Records a directory in place of the former one of that name, to be read with `read_directory`.

        The directory is taken over: it is gone afterwards. Made by `staging`, it is not copied.
        """
        payload = {"name": name, "recorded_ns": time.time_ns()}
        with self.staging() as staging:
            # A rename within the journal's disk; elsewhere a copy.
            shutil.move(path, staging / name)
            self._recorder.record("state", payload, staging / name)

    def delete_directory(self, name: str) -> None:
        """Removes a directory that `replace_directory` recorded."""
        self._recorder.record("state_removal", {"name": name})

    def log_model(self, description: Mapping[str, Any], files: Path) -> str:
        """Records a LoggedModel with its files; see `log_checkpoint`."""
        handle = uuid.uuid4().hex
        self._recorder.record("checkpoint", {"handle": handle, **description}, files)
        return self._recorder.model_handle(handle)

    def delete_checkpoint(self, handle: str) -> None:
        """Removes the weights of a checkpoint; its LoggedModel and its metrics stay, tagged `weights=deleted`."""
        self._recorder.record("removal", {"handle": handle})

    def end(self, status: str, is_signalled: bool = False) -> None:
        """Ends the run; nothing can be recorded any more."""
        self._recorder.record("end", {"status": status, "end_ms": int(time.time() * 1000)})
        self._recorder.finish(is_signalled)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A directory for files on their way, on the disk where they are kept; recording may take it over."""
        directory = self._recorder.staging_directory()
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _log_files(self, staging: Path, directory: str | None) -> None:
        self._recorder.record("artifacts", {"directory": "" if directory == "." else directory}, staging)


@contextmanager
def tracked_run(
    kind: str,
    name: str | None = None,
    tags: Mapping[str, object] | None = None,
    *,
    journal: bool = False,
    resume: str = "",
) -> Iterator[TrackedRun]:
    """Opens a run for the duration of a `with` block.

    The run that `mlflow run` has opened (MLFLOW_RUN_ID) is taken over by the first call in a process. Of several
    processes that a launcher has started, those after the first (RANK) record nothing.

    Args:
        kind: the door, recorded as the tag `kind`: train, score, evaluate and so on.
        name: the run's name; None leaves it to MLflow.
        tags: further tags.
        journal: keeps everything on the local disk until the tracking server has it. Trouble with the server
            then never reaches the block, and `run.client` may still know nothing of what was recorded.
        resume: the id of a run to take up again, after what a journal of it still holds has been sent.

    Raises:
        ValueError: there is no run to resume, or another process is still at it.
        RunTakenOver: another process has taken the run up, and goes on with it.
        MlflowException: the server fails; with a journal only if it refuses the run itself.
    """
    client = connect()
    run = TrackedRun(client, open_recorder(client, kind, name, journal, resume))
    with sigterm_raises():
        try:
            run.set_tags(opening_tags(kind, tags, bool(resume)))
            environment = {"packages": provenance.package_versions(), "hardware": provenance.hardware()}
            run.log_json(environment, "environment_resumed.json" if resume else "environment.json")
            yield run
        except (KeyboardInterrupt, Terminated):
            _end_badly(run, "KILLED", {"error": "stopped by a signal"})
            raise
        except BaseException as error:
            _end_badly(run, "FAILED", {"error": one_line(error)})
            raise
        run.end("FINISHED")


def one_line(error: BaseException) -> str:
    """Returns an error's message as one line, or the name of its class where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def _end_badly(run: TrackedRun, status: str, tags: Mapping[str, str]) -> None:
    """Ends a run while an error is under way, which a tracking server that fails must not hide."""
    text = traceback.format_exc()
    steps: list[Callable[[], object]] = [
        lambda: run.set_tags(tags),
        lambda: run.log_text(text, "traceback.txt"),
        lambda: run.end(status, is_signalled=status == "KILLED"),
    ]
    for step in steps:
        try:
            step()
        except RunTakenOver as lost:  # no longer its run
            if one_line(lost) != tags["error"]:
                logger.warning("%s", lost)
            return
        except Exception as error:  # whatever the server does, the next step is still tried
            logger.warning("run %s: could not be ended as %s: %s", run.run_id, status, one_line(error))


def run_link(run: mlflow.entities.Run) -> str:
    """Returns the Markdown link to a run within the tracking UI."""
    return f"[{run.info.run_name}](#/experiments/{run.info.experiment_id}/runs/{run.info.run_id})"
