"""One tracked run: what it records, and the calls to the server by which it does so."""

import html
import json
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import yaml
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
    RunTag,
)
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.utils import name_utils

from sls.config import Config
from sls.data.tables.protocols import Protocol
from sls.files import naming, scratch_directory
from sls.quotation import make_visible
from sls.tracking.artifacts import delete_states, open_artifacts, upload_directory, upload_state
from sls.tracking.database import database_answer
from sls.tracking.offline.journal import Journal
from sls.tracking.offline.server_calls import recorded
from sls.tracking.store import NEWEST_FIRST, find_first_run
from sls.tracking.tags import ENDED_TAG, WEIGHTS_DELETED, WEIGHTS_TAG

HANDLE_TAG = "checkpoint"
MAX_TAG_LENGTH = 4_000
MAX_PARAM_LENGTH = 4_000
# MLflow's databases hold 36 characters of a digest.
DATASET_DIGEST_LENGTH = 32


class TrackedRun:
    """A run on the tracking server, by which everything is recorded.

    What is marked `recorded` is a call to the server that raises where it fails, or with a journal an entry there, by
    which `sls.tracking.sender` makes the call; made twice, it changes nothing.
    """

    def __init__(
        self, client: MlflowClient, run_id: str, journal: Journal | None = None, is_silent: bool = False
    ) -> None:
        """Stands for an open run: with a journal the server need not know it yet; a silent one records nothing."""
        self.client, self.run_id, self.journal, self.is_silent = client, run_id, journal, is_silent

    @cached_property
    def experiment_id(self) -> str:
        """Its experiment, as the server knows it."""
        return str(self.client.get_run(self.run_id).info.experiment_id)

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Sets tags; values are cut at what every store can hold, and bytes of no character in paths told as such."""
        texts = {key: str(value).encode(errors="backslashreplace").decode() for key, value in tags.items()}
        self._set_tags({key: text[:MAX_TAG_LENGTH] for key, text in texts.items()})

    @recorded
    def _set_tags(self, tags: Mapping[str, str]) -> None:
        self.client.log_batch(self.run_id, tags=[RunTag(name, value) for name, value in tags.items()])

    @recorded
    def suggest_name(self, name: str) -> None:
        """Names the run by its door and what it works on, unless a person has named it."""
        current = self.client.get_run(self.run_id).info.run_name or ""
        if is_made_up(current) or current == name.split()[0]:
            self.client.update_run(self.run_id, name=make_visible(name))

    def log_config(self, config: Config) -> None:
        """Records the whole configuration: as parameters `cfg/NAME`, and as `config.yaml` to run it again.

        The prefix keeps them apart from the parameters that `mlflow run` records as they were typed.
        """
        flat = config.to_flat()
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in flat.items()}
        self.log_text(yaml.safe_dump(plain, sort_keys=False), "config.yaml")
        # Last: a run that is found by its parameters can be run again.
        self._log_params({f"cfg/{name}": str(value)[:MAX_PARAM_LENGTH] for name, value in flat.items()})

    @recorded
    def _log_params(self, values: Mapping[str, str]) -> None:
        self.client.log_batch(self.run_id, params=[Param(name, value) for name, value in values.items()])

    def log_metrics(
        self,
        metrics: Mapping[str, float],
        step: int = 0,
        model_id: str | None = None,
        dataset: Dataset | None = None,
    ) -> None:
        """Records metrics, tied to a checkpoint (`model_id`, or its handle) and a dataset where given."""
        values = {name: float(value) for name, value in metrics.items()}
        data = {"dataset_name": dataset.name, "dataset_digest": dataset.digest} if dataset else {}
        self._log_metrics(values, int(time.time() * 1000), step, model_id, data)

    @recorded
    def _log_metrics(
        self,
        values: Mapping[str, float],
        time_ms: int,
        step: int,
        model: str | None,
        dataset: Mapping[str, str],
    ) -> None:
        about = {"model_id": self._model_id(model) if model else None, "run_id": self.run_id, **dataset}
        metrics = [Metric(name, value, time_ms, step, **about) for name, value in values.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

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
        self._log_dataset(dataset.to_dictionary(), context)
        return dataset

    @recorded
    def _log_dataset(self, dataset: Mapping[str, Any], context: str) -> None:
        tags = [InputTag("mlflow.data.context", context)]
        self.client.log_inputs(self.run_id, [DatasetInput(Dataset(**dataset), tags)])

    def log_text(self, text: str, name: str) -> None:
        """Records a text as an artifact."""
        path = PurePosixPath(name)
        self.log_contents({path.name: text.encode()}, str(path.parent))

    def log_json(self, value: Any, name: str) -> None:
        """Records a value as a JSON artifact."""
        self.log_text(json.dumps(value, indent=2, default=str) + "\n", name)

    def log_contents(self, contents: Mapping[str, bytes], directory: str = "") -> None:
        """Records the contents of files, by name, as artifacts."""
        with self.artifacts(directory) as files:
            for name, content in contents.items():
                (files / name).write_bytes(content)

    @contextmanager
    def artifacts(self, directory: str = "") -> Iterator[Path]:
        """An empty directory; its files are recorded as artifacts when the `with` block ends without an error."""
        with self.staging() as staging:
            yield staging
            self._log_files(directory, files=staging)

    @recorded
    def _log_files(self, directory: str, *, files: Path | None) -> None:
        if files is not None:
            upload_directory(self._artifact_store(), files, directory)

    def keep_state(self, directory: Path, name: str, epoch: int, batch: int) -> None:
        """Records a state of the training in place of the former one of that name, for `download_state`.

        The directory, made by `staging`, holds the state alone, and is taken over. The further a state is, by its
        epoch and by the next batch of that, the more it counts.
        """
        self._keep_state(name, epoch, batch, files=directory)

    @recorded
    def _keep_state(self, handle: str, epoch: int, batch: int, *, files: Path | None) -> None:
        if files is not None:
            upload_state(self._artifact_store(), files, handle, epoch, batch)

    @recorded
    def delete_states(self, handle: str) -> None:
        """Removes the states of a name."""
        delete_states(self._artifact_store(), handle)

    def log_model(
        self,
        name: str,
        step: int,
        tags: Mapping[str, str],
        params: Mapping[str, str],
        files: Path,
        handle: str = "",
    ) -> str:
        """Records a LoggedModel with its files, a directory that is taken over.

        With the handle of one that was begun, that one is completed, on the run that began it.

        Returns:
            What `log_metrics` and `delete_checkpoint` take: its id, or with a journal a handle that stands for it.
        """
        handle = handle or uuid.uuid4().hex
        self._log_model(handle, name, step, dict(tags), dict(params), files=files)
        return handle if self.journal or self.is_silent else self._model_id(handle)

    @recorded
    def _log_model(
        self,
        handle: str,
        name: str,
        step: int,
        tags: dict[str, str],
        params: dict[str, str],
        *,
        files: Path | None,
    ) -> None:
        model = self._find_model(handle) or self.client.create_logged_model(
            self.experiment_id, name, self.run_id, {**tags, HANDLE_TAG: handle}, params, "checkpoint"
        )
        if model.status != LoggedModelStatus.READY:
            if files is None:
                self.client.set_logged_model_tags(model.model_id, {WEIGHTS_TAG: WEIGHTS_DELETED})
            else:
                upload_directory(open_artifacts(self.client, model.artifact_location), files)
            self.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        made_by = model.source_run_id or self.run_id
        outputs = self.client.get_run(made_by).outputs
        known = [output.model_id for output in outputs.model_outputs] if outputs else []
        if model.model_id not in known:
            self.client.log_outputs(made_by, [LoggedModelOutput(model.model_id, step)])

    @recorded
    def delete_checkpoint(self, handle: str) -> None:
        """Removes the weights of a checkpoint; its LoggedModel and its metrics stay, tagged `weights=deleted`."""
        model = self.client.get_logged_model(self._model_id(handle))
        # The word first: nobody finds a checkpoint empty without one.
        self.client.set_logged_model_tags(model.model_id, {WEIGHTS_TAG: WEIGHTS_DELETED})
        store = open_artifacts(self.client, model.artifact_location)
        for item in store.list_artifacts():
            store.delete_artifacts(item.path)

    @recorded
    def renew_results(self) -> None:
        """Brings the figures of the epoch that it chose up to date: it may have been evaluated before the choice."""
        from sls.tracking.registry.parent_run import renew_results  # which imports this module

        renew_results(self.client, self.run_id)

    def end(self, status: str) -> None:
        """Ends the run; nothing can be recorded any more."""
        self._end(status, int(time.time() * 1000))

    @recorded
    def _end(self, status: str, end_ms: int) -> None:
        last = find_first_run(self.client, f"tags.{ENDED_TAG} != ''", order_by=NEWEST_FIRST)
        if last is None or last.info.run_id != self.run_id:
            number = int(last.data.tags[ENDED_TAG]) + 1 if last else 1
            self.client.set_tag(self.run_id, ENDED_TAG, f"{number:012d}")
        self.client.set_terminated(self.run_id, status, end_ms)

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A directory for files on their way, on the disk where they are kept; recording may take it over."""
        place = self.journal.path if self.journal else None
        if place is None:
            with scratch_directory() as scratch:
                yield scratch
            return
        with (
            TemporaryDirectory(prefix="staging-", dir=place, ignore_cleanup_errors=True) as directory,
            naming(place),
        ):
            yield Path(directory)

    def _artifact_store(self) -> ArtifactRepository:
        return open_artifacts(self.client, self.client.get_run(self.run_id).info.artifact_uri)

    def _model_id(self, handle: str) -> str:
        """Returns the id of a LoggedModel by its handle; an id stands for itself."""
        if handle.startswith("m-"):
            return handle
        model = self._find_model(handle)
        if model is None:
            raise KeyError(f"no checkpoint {handle} on the server")
        return str(model.model_id)

    def _find_model(self, handle: str) -> LoggedModel | None:
        condition = f"tags.{HANDLE_TAG} = '{handle}'"
        found = self.client.search_logged_models([self.experiment_id], condition, max_results=1)
        return found[0] if found else None


def is_made_up(name: str) -> bool:
    """Whether MLflow made up a run's name, of a word, another one and a number, as for every run without one."""
    words = name.split("-")
    known = [getattr(name_utils, f"_GENERATOR_{kind}", ()) for kind in ("PREDICATES", "NOUNS")]
    return len(words) == 3 and words[0] in known[0] and words[1] in known[1] and words[2].isdigit()


def one_line(error: BaseException) -> str:
    """Returns an error's message as one line, or the name of its class where it has none."""
    text = database_answer(error, mlflow.get_tracking_uri()) or str(error)
    return " ".join(text.split()) or type(error).__name__


def run_link(run: mlflow.entities.Run) -> str:
    """Returns the Markdown link to a run within the tracking UI."""
    name = escape_markdown(run.info.run_name or "")
    return f"[{name}](#/experiments/{run.info.experiment_id}/runs/{run.info.run_id})"


def escape_markdown(text: str) -> str:
    """Returns a user's text as Markdown that shows it in one line: what means something there or in HTML is plain."""
    plain = html.escape(" ".join(text.split()), quote=False)
    # An underscore within a word means nothing.
    return re.sub(r"[\\`*~$|\[\]]|\b_|_\b", lambda found: f"&#{ord(found[0])};", plain)
