"""Who may write a run: the process that opened it last.

On one machine the lock of a journal keeps two processes apart. Nothing does between machines, so whoever opens a run
with a journal puts a token on it, the tag `writer`, and before each recording compares the run's with its own. MLflow
cannot compare and write in one step: a recording that is on its way while the token changes still arrives.
"""

import time

from mlflow import MlflowClient
from mlflow.entities import Run

from sls.files import this_process
from sls.tracking.offline.journal_files import Opening
from sls.tracking.store import experiment_id, find_by_journal
from sls.tracking.tags import JOURNAL_TAG, WRITER_TAG


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
        client.set_tag(run_id, WRITER_TAG, opening.writer)
    if opening.run_id:
        client.update_run(run_id, status="RUNNING", name=opening.name)
    if opening.launched:
        client.set_tag(opening.launched, "resumed_run_id", run_id)
        client.set_terminated(opening.launched, "FINISHED")
    return run


def new_writer(journal: str) -> str:
    """Returns the token of this process for the run of a journal; the journal's id makes it unique."""
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return f"{this_process()} since {now} (journal {journal})"


def expect_writer(run: Run, *expected: str, advice: str = "") -> None:
    """Compares the token on a run, where there is one, with those that may be there.

    Raises:
        RunTakenOver: it is another one; the message ends in the advice.
    """
    writer = run.data.tags.get(WRITER_TAG)
    if writer and writer not in expected:
        name = writer.partition(" (journal")[0]
        raise RunTakenOver(f"run {run.info.run_id} is written by {name}{advice}")


def _make_run(client: MlflowClient, opening: Opening) -> Run:
    """Makes a run, or finds it where an attempt has made it."""
    experiment = experiment_id(client, opening.experiment)
    tags = {"mlflow.source.name": opening.source, JOURNAL_TAG: opening.journal_id}
    found = find_by_journal(client, opening.journal_id, [experiment])
    return found or client.create_run(experiment, opening.start_ms, tags, opening.name)
