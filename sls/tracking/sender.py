"""Sends a journal: beside a training, or afterwards."""

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run
from mlflow.exceptions import MlflowException

from sls.tracking.database import StoreError, require_there
from sls.tracking.offline.journal import Journal
from sls.tracking.offline.journal_files import Entry, EntryDamaged
from sls.tracking.offline.server_calls import CALLS, DELETIONS, describe, is_refusal, make_call, short_calls
from sls.tracking.run import TrackedRun, one_line
from sls.tracking.store import require_answer
from sls.tracking.tags import REFUSED_TAG
from sls.tracking.writer import RunTakenOver, expect_writer, open_run

RETRY_DELAY_S = 2.0
"""How long after a call that failed the next one is made."""
AWAY_PATIENCE_S = 10.0
"""How long the end of a run waits for a server that is away, and then for the answer to a call that is under way."""

NOT_YET = "nothing is removed while"
"""How the reason begins why a deletion was not made."""

logger = logging.getLogger(__name__)


class RecordingsRefused(Exception):
    """Something that a run recorded is not where it says; the message says how much, and where it is kept."""


class Sender:
    """Makes the calls of a journal in order, and waits where the server is away."""

    def __init__(self, client: MlflowClient, journal: Journal) -> None:
        self.journal = journal
        self._run = TrackedRun(client, journal.position.run_id)
        self._away_since: float | None = None
        self._away_reason = ""
        self._is_closing = self._is_ended = self._is_calling = False
        self._refused_before = ""
        """What another journal of the run could not bring, if that makes it end FAILED."""
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)

    def send_next(self) -> None:
        """Opens the run, or sends the first pending entry; one that cannot be sent is noted and passed over.

        That is one that the server refuses, one that is damaged, and one that would remove something while another
        that may have been to replace it is not there.

        Raises:
            RunTakenOver: another process writes the run by now, and no entry is sent any more.
            Exception: the server is away or could not take it, and the entry stays pending.
        """
        journal = self.journal
        if not journal.position.run_id:
            self._run.run_id = make_call(lambda: open_run(self._run.client, journal.opening)).info.run_id
            journal.mark_opened(self._run.run_id)
            return
        entry, refusal = journal.next_entry(), ""
        try:
            make_call(lambda: self._call(entry))
        except Exception as error:
            if not (is_refusal(error) or isinstance(error, EntryDamaged)):
                raise
            refusal = one_line(error)
        self._note_refusal(entry, refusal)
        journal.mark_sent(entry, refusal)

    def open(self) -> str:
        """Opens the run, or else lets it be opened once the server is back.

        Returns:
            The run's id, or the journal's until the server has made the run.

        Raises:
            MlflowException: the server refuses the run.
            RunTakenOver: another process has opened it: since its writer was looked for, or before, where the
                run that `mlflow run` made is opened a second time and not resumed.
        """
        try:
            self.send_next()
        except BaseException as error:
            if (
                not isinstance(error, Exception)
                or isinstance(error, (RunTakenOver, StoreError))
                or is_refusal(error)
            ):
                self.journal.stop(error)
                self.journal.close()
                raise
            self._note_away(error)
        return self.journal.run_id

    def start(self) -> None:
        """Sends in the background from now on."""
        self._thread.start()

    def finish(self, limit_s: float) -> None:
        """Waits, within bounds, until all is sent; raises RecordingsRefused where the store refused some."""
        journal, started = self.journal, time.monotonic()
        with journal.changed:
            self._is_closing = True
            journal.changed.notify_all()
            while not journal.is_sent and not journal.stopped:
                now = time.monotonic()
                away_s = 0.0 if self._away_since is None else now - max(self._away_since, started)
                # A busy server may take longer over a call than one that is away is waited for.
                is_away = away_s > AWAY_PATIENCE_S and not self._is_calling
                if now - started > limit_s or is_away:
                    break
                journal.changed.wait(0.1)
            self._is_ended = True
            journal.changed.notify_all()
        self._thread.join(timeout=1)
        if journal.pending and not journal.stopped:
            logger.warning(
                "%d entries of run %s are kept in %s (%s); `mlflow run . -e sync` sends them once the server is back",
                len(journal.pending),
                journal.run_id,
                journal.path,
                self._away_reason or "not sent in time",
            )
        if (num_refused := len(journal.position.refused)) and not journal.stopped:
            ends = "ended FAILED" if journal.is_sent else "will end FAILED, once `sync` has sent the rest"
            raise RecordingsRefused(
                f"the run {journal.run_id} {ends}: {num_refused} of its recordings were refused; "
                f"they are kept in {journal.path}"
            )
        if self._refused_before and not journal.stopped:
            raise RecordingsRefused(
                f"the run {journal.run_id} ended FAILED: {self._refused_before} of an earlier journal were refused"
            )

    def _work(self) -> None:
        while self._wait_for_work():
            self._is_calling = True
            try:
                self.send_next()
            except RunTakenOver as error:
                left = f"this one stops, and what it had not sent stays in {self.journal.path}"
                self.journal.stop(RunTakenOver(f"{error}; {left}"))
            except Exception as error:  # whatever it is, training goes on and the entry is kept
                self._is_calling = False
                self._note_away(error)
                with self.journal.changed:
                    self.journal.changed.wait_for(lambda: self._is_ended, RETRY_DELAY_S)
            else:
                self._note_back()
        self.journal.close()

    def _wait_for_work(self) -> bool:
        journal = self.journal
        with journal.changed:
            journal.changed.wait_for(lambda: self._is_closing or journal.stopped or not journal.is_sent)
            return not (journal.is_sent or journal.stopped or self._is_ended)

    def _call(self, entry: Entry) -> None:
        run, refused = self._find_run(), self.journal.position.refused
        expect_writer(run, self.journal.opening.writer)
        with self.journal.hold_files(entry) as files:
            given = {"files": files} if entry.has_files else {}
            arguments = dict(entry.arguments)
            missing = [number for number, text in refused.items() if not text.startswith(NOT_YET)]
            if entry.call in DELETIONS and missing:
                raise EntryDamaged(f"{NOT_YET} {_entries(missing)} are not there")
            # Perhaps of another journal, which went on with the run before.
            if arguments.get("status") == "FINISHED" and (refused or run.data.tags.get(REFUSED_TAG)):
                arguments["status"] = "FAILED"  # for something that it recorded is not there
                self._refused_before = run.data.tags.get(REFUSED_TAG, "")
            CALLS[entry.call](self._run, **arguments, **given)

    def _find_run(self) -> Run:
        """Returns the run; raises StoreError where it is gone or deleted, which refuses no recording for good."""
        try:
            run = self._run.client.get_run(self._run.run_id)
        except MlflowException as error:
            if is_refusal(error):
                raise StoreError(f"the store has no run {self._run.run_id}") from error
            raise
        if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
            raise StoreError(f"the run {self._run.run_id} is deleted; `mlflow runs restore` restores it")
        return run

    def _note_refusal(self, entry: Entry, refusal: str) -> None:
        """Says on the run that an entry was refused, or that it is there by now."""
        before = self.journal.position.refused
        if refusal and not before:
            title = f"entry {entry.number} ({entry.call.lstrip('_') or 'damaged'})"
            logger.warning("%s cannot be sent: %s; it is kept in %s", title, refusal, self.journal.path)
        now = {number: text for number, text in before.items() if number != str(entry.number)}
        now |= {str(entry.number): refusal} if refusal else {}
        if now.keys() == before.keys():
            return
        try:
            self._run.client.set_tag(self._run.run_id, REFUSED_TAG, _entries(now))
        except MlflowException as error:
            if not is_refusal(error):
                raise

    def _note_away(self, error: Exception) -> None:
        trouble, self._away_reason = describe(error)
        if self._away_since is None:
            self._away_since = time.monotonic()
            message = "%s; the run goes on and its entries stay in %s (%s)"
            logger.warning(message, trouble, self.journal.path, self._away_reason)

    def _note_back(self) -> None:
        if self._away_since is not None:
            self._away_since = None
            logger.warning("the tracking server is back; %d entries to send", len(self.journal.pending))


def _entries(refused: Iterable[str]) -> str:
    names = ", ".join(sorted(refused, key=int))
    return f"entries {names}"[:500] if names else ""


@dataclass(frozen=True)
class SentJournal:
    """What became of a journal that was sent."""

    run_id: str
    num_sent: int
    num_refused: int
    path: Path
    """Where it lay; gone, unless something was refused or is damaged."""
    damage: str = ""
    """Why nobody can say whether it was whole."""

    @property
    def is_kept(self) -> bool:
        """Whether something stays in the journal."""
        return bool(self.num_refused or self.damage)

    def __str__(self) -> str:
        """Says so in one line."""
        text = f"Run {self.run_id}: sent {self.num_sent} entries"
        refused = f"; {self.num_refused} refused, kept in {self.path}" if self.num_refused else ""
        damage = f"; {self.damage}, kept: remove {self.path} if nobody needs it" if self.damage else ""
        return text + refused + damage


def send_journal(path: Path, tracking_uri: str = "") -> SentJournal:
    """Sends what is left of a journal, and what was refused once more; removes it if nothing is refused (any more).

    Without a URI it goes where the run was meant for.

    Raises:
        BlockingIOError: another process holds the journal.
        FileNotFoundError: another process has sent it in the meantime.
        RunTakenOver: another process writes the run by now; what was not sent stays.
        ConnectionError: the server is away, or something else went wrong; what was not sent stays.
        JournalDamaged: nothing of the journal can be sent; it stays.
        StoreError: it was meant for a database that is gone, or the run was deleted.
    """
    journal = Journal(path)
    journal.send_refused_again()
    entries, uri = list(journal.pending), tracking_uri or journal.opening.tracking_uri
    try:
        require_there(uri)
        require_answer(uri)
        with short_calls():
            sender = Sender(MlflowClient(uri), journal)
            while not journal.is_sent:
                sender.send_next()
    except Exception as error:
        kept = f"{len(journal.pending)} entries stay in {path}"
        if isinstance(error, RunTakenOver):
            raise RunTakenOver(f"{error}; {kept}, to be removed if nobody needs them") from error
        if isinstance(error, StoreError):
            raise StoreError(f"{error}; {kept}") from error
        trouble, reason = describe(error)
        raise ConnectionError(f"{trouble}; {kept} ({reason})") from error
    finally:
        journal.close()
    refused = journal.position.refused
    num_sent = sum(str(entry.number) not in refused for entry in entries)
    return SentJournal(journal.position.run_id, num_sent, len(refused), path, damage=journal.damage)
