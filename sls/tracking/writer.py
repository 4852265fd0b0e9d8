"""Who may write a run: the process that opened it last; and what became of runs whose process was killed.

On one machine the lock of a journal keeps two processes apart. Nothing does between machines, so whoever opens a run
with a journal puts a token on it, the tag `writer`, and before each recording compares the run's with its own. MLflow
cannot compare and write in one step: a recording that is on its way while the token changes still arrives.

A process that is killed cannot end its run. Every run bears a mark of its process, the tag `process`, by which the
next door on that machine finds it, and ends it as KILLED.
"""

import logging
import time
from contextlib import ExitStack, suppress

from mlflow import MlflowClient
from mlflow.entities import Run, RunTag
from mlflow.exceptions import MlflowException

from sls.processes import is_gone, mark_process, process_space, this_process
from sls.tracking.offline.journal import Journal
from sls.tracking.offline.journal_files import JournalDamaged, Opening, find_journals
from sls.tracking.offline.server_calls import is_server_failure, short_calls
from sls.tracking.run import TrackedRun
from sls.tracking.store import experiment_id, find_by_journal, find_runs
from sls.tracking.tags import JOURNAL_TAG, PROCESS_TAG, WRITER_TAG

LOOK_TIMEOUT_S = 5
"""How long looking for runs that were killed may hold up a door."""

_looked_in: set[str] = set()

logger = logging.getLogger(__name__)


class RunTakenOver(Exception):
    """Another process writes the run now, and nothing more of this one may reach it."""


def open_run(client: MlflowClient, opening: Opening) -> Run:
    """Opens a run; done again after it was cut off, it opens the same one.

    Raises:
        RunTakenOver: another process has opened it since `former_writer` was read.
        StoreError: its experiment is deleted, or its artifacts lay where there is no directory any more.
        Exception: the server is away, or refuses the run.
    """
    run = client.get_run(opening.run_id) if opening.run_id else _make_run(client, opening)
    run_id = run.info.run_id
    if opening.run_id:
        experiment_id(client, {"id": run.info.experiment_id, "name": ""})
    if opening.writer:
        # However late this comes, it takes the run from nobody who resumed it since then.
        advice = f"; resume={run_id} goes on from its last state"
        expect_writer(run, opening.writer, opening.former_writer, advice=advice)
    tags = {PROCESS_TAG: mark_process(), **({WRITER_TAG: opening.writer} if opening.writer else {})}
    if not tags.items() <= run.data.tags.items():
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    if opening.run_id:
        client.update_run(run_id, status="RUNNING", name=opening.name)
    if opening.launched:
        client.set_tag(opening.launched, "resumed_run_id", run_id)
        client.update_run(opening.launched, name=f"resume {run.info.run_name}")
        client.set_terminated(opening.launched, "FINISHED")
    return run


def new_writer(journal: str) -> str:
    """Returns the token of this process for the run of a journal; the journal's id makes it unique."""
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return f"{this_process()} since {now} (journal {journal})"


def expect_writer(run: Run, *expected: str, advice: str = "") -> None:
    """Raises RunTakenOver, with the advice at its end, where a run has another token than those that are expected."""
    writer = run.data.tags.get(WRITER_TAG)
    if writer and writer not in expected:
        name = writer.partition(" (journal")[0]
        raise RunTakenOver(f"run {run.info.run_id} is written by {name}{advice}")


def _make_run(client: MlflowClient, opening: Opening) -> Run:
    """Makes a run, or finds it where an attempt has made it."""
    experiment = experiment_id(client, opening.experiment)
    tags = {
        "mlflow.source.name": opening.source,
        JOURNAL_TAG: opening.journal_id,
        PROCESS_TAG: mark_process(),
    }
    found = find_by_journal(client, opening.journal_id, [experiment])
    return found or client.create_run(experiment, opening.start_ms, tags, opening.name)


def end_killed_runs(beside: TrackedRun) -> None:
    """Ends as KILLED the runs of a run's experiment whose process is gone from this machine; once in a process.

    Of the same boot alone, and of the same container: of others nobody here can say whether they are at work. A run
    can be resumed as before. What the server or a journal has against it is no matter of the door that looks.
    """
    client = beside.client
    if client.tracking_uri in _looked_in:
        return
    _looked_in.add(client.tracking_uri)
    try:
        conditions = ("attributes.status = 'RUNNING'", f"tags.{PROCESS_TAG} LIKE '{process_space()} %'")
        with short_calls(LOOK_TIMEOUT_S):
            for run in list(find_runs(client, *conditions, experiments=[beside.experiment_id])):
                if not is_gone(run.data.tags[PROCESS_TAG]):
                    continue
                try:
                    _end_killed(client, run)
                except (BlockingIOError, FileNotFoundError):  # its journal is being sent
                    continue
                except MlflowException as error:
                    if is_server_failure(error) and error.error_code != "PERMISSION_DENIED":
                        raise
    except Exception as error:
        logger.debug("no runs were looked for whose process was killed: %s", error)


def is_at_work(run: Run) -> bool:
    """Whether a process of this machine that opened a run last is still there; of others nobody here can say."""
    mark = run.data.tags.get(PROCESS_TAG, "")
    return bool(mark) and mark.startswith(f"{process_space()} ") and not is_gone(mark)


def _end_killed(client: MlflowClient, run: Run) -> None:
    run_id = run.info.run_id
    with ExitStack() as stack:
        for path in find_journals(run_id, run.data.tags.get(JOURNAL_TAG, "")):
            with suppress(JournalDamaged):
                journal = Journal(path)
                stack.callback(journal.close)
                if any(entry.call == "_end" for entry in journal.pending):
                    return  # it ended otherwise, which is still to be sent
        now = client.get_run(run_id)
        if (now.info.status, now.data.tags.get(PROCESS_TAG)) == ("RUNNING", run.data.tags[PROCESS_TAG]):
            killed = TrackedRun(client, run_id)
            killed.set_tags({"error": "its process was killed"})
            killed.end("KILLED")
            logger.info("run %s is ended as KILLED: its process is gone", run_id)
