"""How a run begins: new, opened by `mlflow run`, or taken up again."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from sls.engine.compute.launch import Launch
from sls.tracking import provenance
from sls.tracking.offline.journal import find_journals
from sls.tracking.offline.recorders import DirectRecorder, JournalRecorder, Recorder, SilentRecorder
from sls.tracking.offline.requests import is_refusal
from sls.tracking.offline.run_writer import RunTakenOver, new_writer, read_writer
from sls.tracking.offline.sender import send_journal, short_calls
from sls.tracking.store import find_run, wanted_experiment

logger = logging.getLogger(__name__)


def open_recorder(
    client: MlflowClient, kind: str, name: str | None, has_journal: bool, resume: str
) -> Recorder:
    """Opens a run: the one to resume, the one that `mlflow run` has opened, or a new one; see `tracked_run`."""
    launched = os.environ.pop("MLFLOW_RUN_ID", "")
    if Launch.read().rank > 0:
        return SilentRecorder(resume or launched)
    former_writer = ""
    try:
        if resume:
            run = _prepare_to_resume(client, resume)
            resume, former_writer = run.info.run_id, read_writer(run)
        journal = uuid.uuid4().hex
        opening = {
            "run_id": resume or launched,
            "launched": launched if resume and launched != resume else "",
            "name": name,
            "source": f"entrypoints.{kind}",
            "experiment": asdict(wanted_experiment()),
            "tracking_uri": client.tracking_uri,
            "start_ms": int(time.time() * 1000),
            "journal": journal,
            "writer": new_writer(journal) if has_journal else "",
            "former_writer": former_writer,
        }
        return JournalRecorder(client, opening) if has_journal else DirectRecorder(client, opening)
    except (ValueError, RunTakenOver) as error:
        if resume and launched and launched != resume:
            client.set_tag(launched, "error", str(error))
            client.set_terminated(launched, "FAILED")
        raise


def _prepare_to_resume(client: MlflowClient, run_id: str) -> Run:
    """Sends what a journal of the run still holds, and returns the run as it then is on the server."""
    for path in find_journals(run_id):
        try:
            send_journal(path, client.tracking_uri)
        except BlockingIOError as error:
            raise ValueError(f"resume: run {run_id} is still at work: {error}") from error
        except RunTakenOver as error:
            # Left behind before the run went on elsewhere, from where it now comes back.
            logger.warning("%s", error)
    try:
        with short_calls():
            run = find_run(client, run_id)
    except MlflowException as error:
        if is_refusal(error):
            raise ValueError(f"resume: the tracking store has no run {run_id}") from error
        raise
    if run.info.status == "FINISHED":
        raise ValueError(f"resume: run {run_id} has finished; there is nothing to go on with")
    return run


def opening_tags(kind: str, tags: Mapping[str, object] | None, is_resumed: bool) -> dict[str, object]:
    """What a run says of its code; one that is resumed keeps the tags of its beginning and adds its own."""
    code = provenance.code_tags()
    if is_resumed:
        return {**{f"resumed.{name}": value for name, value in code.items()}, "error": "", **dict(tags or {})}
    return {"kind": kind, **code, **dict(tags or {})}
