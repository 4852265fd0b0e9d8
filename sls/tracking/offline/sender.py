"""Sends a journal: beside a training, or afterwards."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

from sls.tracking.offline.entries import Entry
from sls.tracking.offline.journal import Journal, journal_id
from sls.tracking.offline.requests import Delivery, is_away, is_race, is_refusal
from sls.tracking.offline.run_writer import RunTakenOver

FIRST_DELAY_S, MAX_DELAY_S = 0.5, 30.0
# The courier tries again by itself; within a call it would only wait.
CALL_SETTINGS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}
AWAY_PATIENCE_S = 10.0
"""How long the end of a run waits for a server that is away."""
FLUSH_LIMIT_S = 600.0
"""How long the end of a run waits while entries are being sent."""

logger = logging.getLogger(__name__)


class Courier:
    """Sends the entries of a journal in order, and waits where the server is away."""

    def __init__(self, client: MlflowClient, journal: Journal) -> None:
        self.journal = journal
        self.delivery = Delivery(client, journal.position)
        self.away_since: float | None = None
        self.away_reason = ""
        self.taken_over: RunTakenOver | None = None
        """Why nothing more is sent."""
        self._is_closing = False
        self._is_stopped = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)

    def start(self) -> None:
        """Sends in the background from now on."""
        self._thread.start()

    def send_next(self) -> None:
        """Sends the first pending entry; one that the server refuses is noted and passed over.

        Raises:
            RunTakenOver: another process writes the run by now, and no entry is sent any more.
            Exception: the server is away or could not take it, and the entry stays pending.
        """
        entry = self.journal.pending[0]
        try:
            self._deliver(entry)
        except Exception as error:
            if self.journal.is_dropped(entry) or is_race(error):
                # Its files went while they were being sent, and now it goes without them; or what another client
                # recorded at the same time is there by now.
                self._deliver(entry)
            elif is_refusal(error):
                self._refuse(entry, error)
            else:
                raise
        self.journal.mark_sent(entry)

    def wait_for_run(self, limit_s: float) -> str:
        """Waits until the server has made the run, is away or refuses; returns the run's id or nothing."""
        position = self.journal.position
        with self.journal.changed:
            self.journal.changed.wait_for(
                lambda: position.next > 0 or self.away_since is not None or self.taken_over, timeout=limit_s
            )
        return position.run_id

    def finish(self, away_patience_s: float = AWAY_PATIENCE_S, limit_s: float = FLUSH_LIMIT_S) -> int:
        """Waits, within bounds, until all is sent; returns the number of entries that are left."""
        started = time.monotonic()
        with self.journal.changed:
            self._is_closing = True
            self.journal.changed.notify_all()
            self._hurry.set()
            while self.journal.pending and not self.taken_over:
                now = time.monotonic()
                away_s = 0.0 if self.away_since is None else now - max(self.away_since, started)
                if now - started > limit_s or away_s > away_patience_s:
                    break
                self.journal.changed.wait(0.1)
        self._is_stopped.set()
        self._thread.join(timeout=1)
        return len(self.journal.pending)

    def _work(self) -> None:
        delay_s = FIRST_DELAY_S
        while self._wait_for_entry():
            try:
                self.send_next()
            except RunTakenOver as error:
                with self.journal.changed:
                    self.taken_over = error
                    self.journal.changed.notify_all()
            except Exception as error:  # whatever it is, training goes on and the entry is kept
                self._note_away(error)
                self._hurry.wait(delay_s)
                if self._hurry.is_set():
                    self._is_stopped.wait(FIRST_DELAY_S)
                delay_s = min(2 * delay_s, MAX_DELAY_S)
            else:
                self._note_back()
                delay_s = FIRST_DELAY_S
        self.journal.close()

    def _wait_for_entry(self) -> bool:
        with self.journal.changed:
            self.journal.changed.wait_for(
                lambda: self._is_closing or (self.journal.pending and not self.taken_over)
            )
            return bool(self.journal.pending) and not (self.taken_over or self._is_stopped.is_set())

    def _deliver(self, entry: Entry) -> None:
        if entry.kind != "open":  # which looks for itself, before it puts its own token there
            self.delivery.expect_own_run()
        path = self.journal.files(entry)
        has_files = entry.kind in ("artifacts", "checkpoint", "state") and not self.journal.is_dropped(entry)
        self.delivery.deliver(entry, path if has_files else None)

    def _refuse(self, entry: Entry, error: Exception) -> None:
        message = " ".join(str(error).split())
        if not self.journal.position.refused:
            logger.warning(
                "the tracking server refuses %s: %s; it is kept in %s",
                entry.title,
                message,
                self.journal.path,
            )
        self.delivery.note_refusal(entry, message)

    def _note_away(self, error: Exception) -> None:
        self.away_reason = _reason(error)
        with self.journal.changed:
            if self.away_since is not None:
                return
            self.away_since = time.monotonic()
            self.journal.changed.notify_all()
        logger.warning(
            "%s; the run goes on and its entries stay in %s (%s)",
            _trouble(error),
            self.journal.path,
            self.away_reason,
        )

    def _note_back(self) -> None:
        if self.away_since is not None:
            self.away_since = None
            logger.warning("the tracking server is back; %d entries to send", len(self.journal.pending))


def _trouble(error: Exception) -> str:
    return "the tracking server is away" if is_away(error) else "recordings could not be sent"


def _reason(error: Exception) -> str:
    """Says what went wrong in at most 200 characters of one line."""
    return ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))[:200]


@contextmanager
def short_calls() -> Iterator[None]:
    """Keeps MLflow from waiting minutes within one call, unless the user has set how long it should."""
    added = {name: value for name, value in CALL_SETTINGS.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@dataclass(frozen=True)
class SentJournal:
    """What became of a journal that was sent."""

    run_id: str
    num_sent: int
    num_refused: int
    path: Path
    """Where it lay; gone, unless something was refused."""

    def __str__(self) -> str:
        """Says so in one line."""
        text = f"Run {self.run_id}: sent {self.num_sent} entries"
        return f"{text}; {self.num_refused} refused, kept in {self.path}" if self.num_refused else text


def send_journal(path: Path, tracking_uri: str = "") -> SentJournal:
    """Sends what is left of a journal, and removes it if nothing was refused.

    Args:
        path: the journal.
        tracking_uri: where to; by default where the run was meant for.

    Raises:
        BlockingIOError: another process holds the journal.
        FileNotFoundError: another process has sent it in the meantime.
        RunTakenOver: another process writes the run by now; what was not sent stays.
        ConnectionError: the server is away, or something else went wrong; what was not sent stays.
        ValueError: the journal is damaged.
    """
    journal = Journal(path)
    num_entries = len(journal.pending)
    try:
        if journal.first is not None and num_entries:
            client = MlflowClient(tracking_uri or journal.first.payload["tracking_uri"])
            courier = Courier(client, journal)
            with short_calls():
                while journal.pending:
                    courier.send_next()
    except RunTakenOver as error:
        left = f"{len(journal.pending)} entries stay in {path}, to be removed if nobody needs them"
        raise RunTakenOver(f"{error}; {left}") from error
    except Exception as error:
        raise ConnectionError(
            f"{_trouble(error)}; {len(journal.pending)} entries stay in {path} ({_reason(error)})"
        ) from error
    finally:
        journal.close()
    num_refused = len(journal.position.refused)
    return SentJournal(journal.position.run_id or journal_id(path), num_entries, num_refused, path)
