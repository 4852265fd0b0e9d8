"""A run while it is active, in a `with` block: new, opened by `mlflow run`, or taken up again; and how it ends.

A run ends FINISHED, FAILED with the error as a tag, or KILLED; where its process was killed, when the next run of the
experiment begins on the same machine.
"""

import logging
import os
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from sls.engine.compute.launch import Launch
from sls.processes import hold_lock
from sls.tracking import provenance
from sls.tracking.offline.journal import create_journal
from sls.tracking.offline.journal_files import JournalDamaged, Opening, find_journals, journal_directory
from sls.tracking.offline.server_calls import (
    NUM_RETRIES,
    OPENING_TIMEOUT_S,
    is_refusal,
    is_server_failure,
    short_calls,
)
from sls.tracking.run import TrackedRun, one_line
from sls.tracking.sender import RecordingsRefused, Sender, send_journal
from sls.tracking.signals import sigterm_raises
from sls.tracking.store import connect, find_run, require_answer, wanted_experiment
from sls.tracking.system_metrics import system_metrics
from sls.tracking.tags import JOURNAL_TAG, REFUSED_TAG, STUDY_KIND, WRITER_TAG
from sls.tracking.writer import RunTakenOver, end_killed_runs, is_at_work, new_writer, open_run

FLUSH_LIMIT_S = 600.0
"""How long the end of a run waits while entries are being sent."""
SIGNAL_LIMIT_S = 10.0
"""How long a run that a signal stops may take to say so."""

logger = logging.getLogger(__name__)


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
        kind: The door, recorded as the tag `kind`: train, score, evaluate and so on.
        name: The run's name; None for that of the door, or what `suggest_name` then makes of it.
        tags: Further tags.
        journal: Keeps everything on the local disk until the tracking server has it. Trouble with the server
            then never reaches the block, and `run.client` may still know nothing of what was recorded.
        resume: The id of a run to take up again, after what a journal of it still holds has been sent.

    Raises:
        ValueError: there is no run to resume, or another process is still at it.
        RunTakenOver: another process has taken the run up, and goes on with it.
        MlflowException: the server fails; with a journal only if it refuses the run itself.
        RecordingsRefused: the server refused something of a journal; the run has ended FAILED.
    """
    with sigterm_raises(), _opened(kind, name, journal, resume) as run:
        try:
            run.set_tags(_opening_tags(kind, tags, bool(resume)))
            environment = {"packages": provenance.package_versions(), "hardware": provenance.hardware()}
            if not name:
                run.suggest_name(kind)
            run.log_json(environment, "environment_resumed.json" if resume else "environment.json")
            with system_metrics(run, kind, bool(resume)):
                yield run
        except KeyboardInterrupt:
            _end_badly(run, "KILLED", "stopped by a signal")
            raise
        except BaseException as error:
            # A server that was away for long just now is not waited for again, three times.
            with short_calls(OPENING_TIMEOUT_S) if is_server_failure(error) else nullcontext():
                _end_badly(run, "FAILED", one_line(error))
            raise
        run.end("FINISHED")


@contextmanager
def _opened(kind: str, name: str | None, has_journal: bool, resume: str) -> Iterator[TrackedRun]:
    client, launched = connect(), os.environ.pop("MLFLOW_RUN_ID", "")
    if Launch.read().rank > 0:
        yield TrackedRun(client, resume or launched, is_silent=True)
        return
    with ExitStack() as stack:
        try:
            opening = _make_opening(client, kind, name, has_journal, resume, launched)
            if has_journal:
                run = stack.enter_context(_sent_in_background(client, opening))
            else:
                require_answer(client.tracking_uri)
                stack.enter_context(short_calls(num_retries=NUM_RETRIES))
                run = TrackedRun(client, open_run(client, opening).info.run_id)
        except (ValueError, RunTakenOver) as error:
            if resume and launched and launched != resume:
                client.set_tag(launched, "error", str(error))
                client.set_terminated(launched, "FAILED")
            raise
        if run.journal is None or run.journal.position.run_id:  # or else the server is away
            end_killed_runs(run)
        yield run


@contextmanager
def _sent_in_background(client: MlflowClient, opening: Opening) -> Iterator[TrackedRun]:
    """Opens a run whose recordings go to a journal, from which they are sent in the background.

    Trouble with the server never reaches the `with` block; its end waits, within bounds, until all is sent.

    Raises:
        MlflowException: the server refuses the run.
        RunTakenOver: another process writes the run.
        ValueError: another process goes on with the run, begun since its journals were looked for.
    """
    with ExitStack() as stack:
        if opening.run_id:
            stack.enter_context(hold_lock(journal_directory() / f"run {opening.run_id}"))
        journal = create_journal(opening)
        sender = Sender(client, journal)
        with short_calls(OPENING_TIMEOUT_S):
            run = TrackedRun(client, sender.open(), journal)
        stack.enter_context(short_calls())
        sender.start()
        try:
            yield run
        except BaseException as error:
            with suppress(RecordingsRefused):  # the first error is the one to tell
                sender.finish(SIGNAL_LIMIT_S if isinstance(error, KeyboardInterrupt) else FLUSH_LIMIT_S)
            if journal.stopped and not isinstance(error, RunTakenOver):
                logger.warning("%s", journal.stopped)
            raise
        sender.finish(FLUSH_LIMIT_S)
        if journal.stopped:
            raise journal.stopped


def _make_opening(
    client: MlflowClient, kind: str, name: str | None, has_journal: bool, resume: str, launched: str
) -> Opening:
    run = _prepare_to_resume(client, resume, kind, has_journal) if resume else None
    run_id, journal = run.info.run_id if run else launched, uuid.uuid4().hex
    return Opening(
        source=f"entrypoints.{kind}",
        name=name,
        tracking_uri=client.tracking_uri,
        experiment=wanted_experiment(),
        start_ms=int(time.time() * 1000),
        journal_id=journal,
        run_id=run_id,
        launched=launched if launched != run_id else "",
        writer=new_writer(journal) if has_journal else "",
        former_writer=run.data.tags.get(WRITER_TAG, "") if run else "",
    )


def catch_up(client: MlflowClient, run_id: str) -> Run:
    """Sends what a journal of a run still holds, and returns the run as it then is on the server.

    Raises:
        ValueError: there is no such run, or another process is still at it.
    """
    damage, made_by = "", ""
    # A journal that was cut off before the answer to the making of its run does not know the run's id.
    with suppress(MlflowException), short_calls():
        made_by = find_run(client, run_id).data.tags.get(JOURNAL_TAG, "")
    for path in find_journals(run_id, made_by):
        try:
            sent = send_journal(path, client.tracking_uri)
            if sent.is_kept:
                logger.warning("%s", sent)
        except FileNotFoundError:  # another process has sent it in the meantime
            continue
        except BlockingIOError as error:
            raise ValueError(f"resume: run {run_id} is still at work: {error}") from error
        except RunTakenOver as error:
            # Left behind before the run went on elsewhere, from where it now comes back.
            logger.warning("%s", error)
        except JournalDamaged as error:
            damage = one_line(error)
            logger.warning("the run goes on without what it had not sent: %s", damage)
    try:
        with short_calls():
            run = find_run(client, run_id)
    except MlflowException as error:
        if is_refusal(error):
            raise ValueError(f"resume: the tracking store has no run {run_id}") from error
        raise
    if damage and run.info.status != "FINISHED":
        client.set_tag(run.info.run_id, REFUSED_TAG, damage[:500])
    return run


def _prepare_to_resume(client: MlflowClient, run_id: str, kind: str, has_journal: bool) -> Run:
    """Returns a run of a door that has not finished, and on which nobody on this machine is at work."""
    run = catch_up(client, run_id)
    # A door that trains by several seeds makes a study of its run.
    found, kinds = run.data.tags.get("kind", kind), (kind, *([STUDY_KIND] if kind == "train" else []))
    if found not in kinds:
        raise ValueError(
            f"resume: found run {run_id} of kind {found}, expected one of kind {' or '.join(kinds)}"
        )
    if run.info.status == "FINISHED":
        raise ValueError(f"resume: run {run_id} has finished; there is nothing to go on with")
    # The lock of a journal says so of a run that has one.
    if not has_journal and run.info.status == "RUNNING" and is_at_work(run):
        raise ValueError(f"resume: run {run_id} is still at work on this machine")
    return run


def _opening_tags(kind: str, tags: Mapping[str, object] | None, is_resumed: bool) -> dict[str, object]:
    """What a run says of its code; one that is resumed keeps the tags of its beginning and adds its own."""
    code = provenance.code_tags()
    if is_resumed:
        return {**{f"resumed.{name}": value for name, value in code.items()}, "error": "", **(tags or {})}
    return {"kind": kind, **code, **(tags or {})}


def _end_badly(run: TrackedRun, status: str, reason: str) -> None:
    """Ends a run while an error is under way, which a tracking server that fails must not hide."""
    text = traceback.format_exc()
    steps: list[Callable[[], object]] = [
        lambda: run.set_tags({"error": reason}),
        lambda: run.log_text(text, "traceback.txt"),
        lambda: run.end(status),
    ]
    for step in steps:
        try:
            step()
        except RunTakenOver:  # no longer its run
            return
        except Exception as error:  # whatever the server does, the next step is still tried
            logger.warning("run %s: could not be ended as %s: %s", run.run_id, status, one_line(error))
