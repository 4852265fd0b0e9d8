"""Where a run's recordings go: straight to the server, or through a journal that waits for it."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn, Protocol

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sls.files import hold_lock
from sls.tracking.offline.entries import Entry, Position
from sls.tracking.offline.journal import create_journal, journal_directory
from sls.tracking.offline.requests import Delivery
from sls.tracking.offline.run_writer import RunTakenOver
from sls.tracking.offline.sender import AWAY_PATIENCE_S, FLUSH_LIMIT_S, Courier, short_calls

OPENING_LIMIT_S = 15.0
SIGNAL_LIMIT_S = 10.0
"""How long a run that a signal stops may take to say so."""

logger = logging.getLogger(__name__)


class Recorder(Protocol):
    """Takes the recordings of one run."""

    run_id: str

    @property
    def experiment_id(self) -> str:
        """The run's experiment; empty where the server has not made the run yet."""

    def record(self, kind: str, payload: Mapping[str, Any], files: Path | None = None) -> None:
        """Takes one recording; its directory of files may be taken over."""

    def staging_directory(self) -> Path:
        """Makes a directory for files on their way."""

    def model_handle(self, handle: str) -> str:
        """Returns what callers use for a checkpoint that was just recorded."""

    def finish(self, is_signalled: bool) -> None:
        """Says that nothing more comes."""


class _KeepsNothing:
    """What recorders have in common that leave nothing on this disk."""

    def staging_directory(self) -> Path:
        """Makes a temporary directory."""
        return Path(tempfile.mkdtemp(prefix="sls-"))

    def finish(self, is_signalled: bool) -> None:
        """Has nothing left to do."""


class SilentRecorder(_KeepsNothing):
    """Takes everything and keeps nothing: for the processes of a launch after the first."""

    experiment_id = ""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id

    def record(self, kind: str, payload: Mapping[str, Any], files: Path | None = None) -> None:
        """Takes a recording."""

    def model_handle(self, handle: str) -> str:
        """Returns the handle."""
        return handle


class DirectRecorder(_KeepsNothing):
    """Sends each recording at once, and raises where that fails."""

    def __init__(self, client: MlflowClient, opening: Mapping[str, Any]) -> None:
        self._delivery = Delivery(client, Position())
        self.record("open", opening)
        self.run_id = self._delivery.position.run_id

    @property
    def experiment_id(self) -> str:
        """The run's experiment."""
        return self._delivery.position.experiment_id

    def record(self, kind: str, payload: Mapping[str, Any], files: Path | None = None) -> None:
        """Sends a recording."""
        self._delivery.deliver(Entry(0, kind, payload), files)

    def model_handle(self, handle: str) -> str:
        """Returns the id of the LoggedModel."""
        return self._delivery.model_id(handle)


class JournalRecorder:
    """Writes each recording to a journal, which is sent in the background; the run feels nothing of the server."""

    def __init__(self, client: MlflowClient, opening: Mapping[str, Any]) -> None:
        """Opens the run; where the server is away, its id is that of the journal.

        Raises:
            MlflowException: the server refuses the run.
            RunTakenOver: another process has opened it: since its writer was looked for, or before, where the
                run that `mlflow run` made is opened a second time and not resumed.
            ValueError: another process goes on with the run, begun since its journals were looked for.
        """
        self._calls = ExitStack()
        if opening["run_id"]:
            self._calls.enter_context(hold_lock(journal_directory() / f"run {opening['run_id']}"))
        self._calls.enter_context(short_calls())
        self._journal = create_journal(opening["journal"])
        self._courier = Courier(client, self._journal)
        self.record("open", opening)
        self._courier.start()
        self.run_id = self._courier.wait_for_run(OPENING_LIMIT_S) or opening["run_id"] or opening["journal"]
        if self._courier.taken_over:
            # There is nothing but the opening, which nobody needs.
            self._journal.mark_sent(self._journal.pending[0])
            self._close()
            advice = f"resume={self.run_id} goes on from its last state"
            raise RunTakenOver(f"{self._courier.taken_over}; {advice}")
        if self._journal.position.refused:
            message = self._journal.position.refused.pop("0")
            self._close()
            raise MlflowException(f"run {self.run_id}: {message}")

    @property
    def experiment_id(self) -> str:
        """The run's experiment; empty where the server has not made the run yet."""
        return self._journal.position.experiment_id

    def record(self, kind: str, payload: Mapping[str, Any], files: Path | None = None) -> None:
        """Writes a recording down.

        Raises:
            RunTakenOver: another process writes the run by now; this recorder is finished.
        """
        if self._courier.taken_over:
            self._leave()
        self._journal.append(kind, payload, files)

    def staging_directory(self) -> Path:
        """Makes a directory on the journal's disk."""
        return self._journal.staging_directory()

    def model_handle(self, handle: str) -> str:
        """Returns the handle, which is resolved on sending."""
        return handle

    def finish(self, is_signalled: bool) -> None:
        """Waits, within bounds, until all is sent; says what is kept otherwise.

        Raises:
            RunTakenOver: another process writes the run by now.
        """
        limit_s = SIGNAL_LIMIT_S if is_signalled else FLUSH_LIMIT_S
        try:
            num_left = self._courier.finish(AWAY_PATIENCE_S, limit_s)
        finally:
            self._calls.close()
        if self._courier.taken_over:
            self._leave()
        if num_left:
            logger.warning(
                "%d entries of run %s are kept in %s (%s); `mlflow run . -e sync` sends them once the server is back",
                num_left,
                self.run_id,
                self._journal.path,
                self._courier.away_reason or "not sent in time",
            )
        num_refused = len(self._journal.position.refused)
        if num_refused:
            logger.warning(
                "%d entries of run %s were refused; they are in %s",
                num_refused,
                self.run_id,
                self._journal.path,
            )

    def _leave(self) -> NoReturn:
        """Lets go of a run that another process has taken over."""
        self._close()
        raise RunTakenOver(
            f"{self._courier.taken_over}; this one stops, and what it had not sent stays in {self._journal.path}"
        )

    def _close(self) -> None:
        """Ends where no more is to be sent."""
        self._courier.finish()
        self._calls.close()
