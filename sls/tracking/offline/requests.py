"""How a recording reaches the tracking server; done twice, it changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModel,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    Run,
    RunTag,
)
from mlflow.exceptions import MlflowException

from sls.tracking.offline.artifacts import (
    delete_directory,
    open_artifacts,
    replace_directory,
    upload_directory,
)
from sls.tracking.offline.entries import Entry, Position
from sls.tracking.offline.run_writer import expect_writer
from sls.tracking.store import Experiment, experiment_id, find_by_journal
from sls.tracking.tags import JOURNAL_TAG, WEIGHTS_DELETED, WEIGHTS_TAG, WRITER_TAG

HANDLE_TAG = "checkpoint"
REFUSED_TAG = "refused"
MAX_PARAMS_IN_A_CALL = 100

# What the server says of the request itself. Anything else, a missing permission too, may be well another time.
REFUSAL_CODES = {
    "BAD_REQUEST",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
}
# By themselves, or behind the error that MLflow raises for them.
NO_ANSWER = (
    ConnectionError,
    TimeoutError,
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,  # an answer that breaks off
)
REFUSAL_STATUSES = {400, 404, 405, 409, 413, 414, 422}


# How databases say that another client made the same row first.
RACES = ("UniqueViolation", "UNIQUE constraint failed", "Duplicate entry")


def is_refusal(error: Exception) -> bool:
    """Says whether the server will never take this request, as against being away or out of order."""
    if isinstance(error, MlflowException):
        return error.error_code in REFUSAL_CODES
    # Artifact stores behind a server raise the HTTP library's own error.
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status in REFUSAL_STATUSES or isinstance(error, (FileNotFoundError, TypeError, KeyError))


def is_race(error: Exception) -> bool:
    """Says whether another client recorded the same at the same time, so that a second try will find it there."""
    return isinstance(error, MlflowException) and any(words in str(error) for words in RACES)


def is_away(error: Exception) -> bool:
    """Says whether the server did not answer."""
    return any(isinstance(link, NO_ANSWER) for link in (error, error.__context__))


class Delivery:
    """Carries the recordings of one run to the tracking server, in order."""

    def __init__(self, client: MlflowClient, position: Position) -> None:
        self.client = client
        self.position = position
        self._ways: dict[str, Callable[[Mapping[str, Any], Path | None], None]] = {
            "open": self._open,
            "tags": self._tags,
            "params": self._params,
            "metrics": self._metrics,
            "dataset": self._dataset,
            "artifacts": self._artifacts,
            "checkpoint": self._checkpoint,
            "removal": self._removal,
            "state": self._state,
            "state_removal": self._state_removal,
            "end": self._end,
        }

    def deliver(self, entry: Entry, files: Path | None) -> None:
        """Sends an entry.

        Args:
            entry: what to send.
            files: the directory of its files; None where it has none or they were dropped.

        Raises:
            Exception: the server is away (`is_away`), refuses it (`is_refusal`), or something else went wrong.
        """
        self._ways[entry.kind](entry.payload, files)

    def expect_own_run(self) -> None:
        """Makes sure that no other process writes the run by now.

        Raises:
            RunTakenOver: one does.
            Exception: the server is away, or has no such run.
        """
        expect_writer(self.client.get_run(self.position.run_id), self.position.writer)

    def note_refusal(self, entry: Entry, message: str) -> None:
        """Says on the run that an entry was refused."""
        self.position.refused[str(entry.number)] = message
        if self.position.run_id:
            names = ", ".join(self.position.refused)
            try:
                self.client.set_tag(self.position.run_id, REFUSED_TAG, f"entries {names}"[:500])
            except MlflowException as error:
                if not is_refusal(error):
                    raise

    def _open(self, payload: Mapping[str, Any], files: Path | None) -> None:
        run = self.client.get_run(payload["run_id"]) if payload["run_id"] else self._new_run(payload)
        run_id, writer = run.info.run_id, payload.get("writer", "")
        if writer:
            # However late this entry comes, it takes the run from nobody who resumed it since then.
            expect_writer(run, writer, payload["former_writer"])
            self.client.set_tag(run_id, WRITER_TAG, writer)
        if payload["run_id"]:
            self.client.update_run(run_id, status="RUNNING", name=payload["name"])
        if payload["launched"]:
            self.client.set_tag(payload["launched"], "resumed_run_id", run_id)
            self.client.set_terminated(payload["launched"], "FINISHED")
        self.position.run_id, self.position.experiment_id = run_id, run.info.experiment_id
        self.position.writer = writer

    def _new_run(self, payload: Mapping[str, Any]) -> Run:
        """Makes a run, or finds it where an attempt has made it."""
        experiment = experiment_id(self.client, Experiment(**payload["experiment"]))
        tags = {"mlflow.source.name": payload["source"], JOURNAL_TAG: payload["journal"]}
        found = find_by_journal(self.client, payload["journal"], [experiment])
        return found or self.client.create_run(experiment, payload["start_ms"], tags, payload["name"])

    def _tags(self, payload: Mapping[str, Any], files: Path | None) -> None:
        tags = [RunTag(name, value) for name, value in payload.items()]
        self.client.log_batch(self.position.run_id, tags=tags)

    def _params(self, payload: Mapping[str, Any], files: Path | None) -> None:
        params = [Param(name, value) for name, value in payload.items()]
        for start in range(0, len(params), MAX_PARAMS_IN_A_CALL):
            batch = params[start : start + MAX_PARAMS_IN_A_CALL]
            self.client.log_batch(self.position.run_id, params=batch)

    def _metrics(self, payload: Mapping[str, Any], files: Path | None) -> None:
        handle = payload["handle"]
        metrics = [
            Metric(
                name,
                value,
                payload["timestamp_ms"],
                payload["step"],
                model_id=self.model_id(handle) if handle else None,
                dataset_name=payload["dataset_name"],
                dataset_digest=payload["dataset_digest"],
                run_id=self.position.run_id,
            )
            for name, value in payload["metrics"].items()
        ]
        self.client.log_batch(self.position.run_id, metrics=metrics)

    def _dataset(self, payload: Mapping[str, Any], files: Path | None) -> None:
        tags = [InputTag("mlflow.data.context", payload["context"])]
        dataset = DatasetInput(Dataset(**payload["dataset"]), tags)
        self.client.log_inputs(self.position.run_id, [dataset])

    def _artifacts(self, payload: Mapping[str, Any], files: Path | None) -> None:
        if files is not None:
            upload_directory(self._run_artifacts(), files, payload["directory"] or "")

    def _checkpoint(self, payload: Mapping[str, Any], files: Path | None) -> None:
        handle = payload["handle"]
        model = self._find_model(handle) or self.client.create_logged_model(
            self.position.experiment_id,
            name=payload["name"],
            source_run_id=self.position.run_id,
            tags={**payload["tags"], HANDLE_TAG: handle},
            params=payload["params"],
            model_type="checkpoint",
        )
        self.position.models[handle] = model.model_id
        if model.status != LoggedModelStatus.READY:
            if files is None:
                self.client.set_logged_model_tags(model.model_id, {WEIGHTS_TAG: WEIGHTS_DELETED})
            else:
                upload_directory(open_artifacts(self.client, model.artifact_location), files)
            self.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        outputs = self.client.get_run(self.position.run_id).outputs
        known = [output.model_id for output in outputs.model_outputs] if outputs else []
        if model.model_id not in known:
            self.client.log_outputs(
                self.position.run_id, [LoggedModelOutput(model.model_id, payload["step"])]
            )

    def _removal(self, payload: Mapping[str, Any], files: Path | None) -> None:
        model = self.client.get_logged_model(self.model_id(payload["handle"]))
        # The word first: nobody finds a checkpoint empty without one.
        self.client.set_logged_model_tags(model.model_id, {WEIGHTS_TAG: WEIGHTS_DELETED})
        store = open_artifacts(self.client, model.artifact_location)
        for item in store.list_artifacts():
            store.delete_artifacts(item.path)

    def _state(self, payload: Mapping[str, Any], files: Path | None) -> None:
        if files is not None:
            replace_directory(self._run_artifacts(), files, payload["name"], payload["recorded_ns"])

    def _state_removal(self, payload: Mapping[str, Any], files: Path | None) -> None:
        delete_directory(self._run_artifacts(), payload["name"])

    def _end(self, payload: Mapping[str, Any], files: Path | None) -> None:
        self.client.set_terminated(self.position.run_id, payload["status"], payload["end_ms"])

    def model_id(self, handle: str) -> str:
        """Returns the id of a checkpoint's LoggedModel; an id stands for itself."""
        if handle.startswith("m-"):
            return handle
        if handle not in self.position.models:
            model = self._find_model(handle)
            if model is None:
                raise KeyError(f"no checkpoint {handle} on the server")
            self.position.models[handle] = model.model_id
        return self.position.models[handle]

    def _find_model(self, handle: str) -> LoggedModel | None:
        if handle in self.position.models:
            return self.client.get_logged_model(self.position.models[handle])
        found = self.client.search_logged_models(
            [self.position.experiment_id], f"tags.{HANDLE_TAG} = '{handle}'", max_results=1
        )
        return found[0] if found else None

    def _run_artifacts(self) -> Any:
        return open_artifacts(self.client, self.client.get_run(self.position.run_id).info.artifact_uri)
