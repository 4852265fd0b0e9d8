"""Sends what runs recorded while the tracking server was away: `mlflow run . -e sync`."""

import sys

import click

from entrypoints.door import EXIT_FAILURE, OPTION_SETTINGS, errors_exit, refuse_unknown, say
from entrypoints.options import text_option
from sls.tracking.offline.journal_files import find_journals, journal_directory
from sls.tracking.sender import send_journal
from sls.tracking.writer import RunTakenOver


@click.command("sync", context_settings=OPTION_SETTINGS)
@text_option("run_id", "the run whose recordings to send [default: all]")
@text_option("tracking_uri", "where to send them [default: where each run was meant for]")
@click.pass_context
def sync(context: click.Context, run_id: str, tracking_uri: str) -> None:
    """Send what was kept while the tracking server was away. It needs no run of its own."""
    with errors_exit("sync"):
        refuse_unknown(context)
        journals = find_journals(run_id)
        if run_id and not journals:
            raise ValueError(f"run_id: no journal of run {run_id} in {journal_directory()}")
        held = 0
        for path in journals:
            try:
                sent = send_journal(path, tracking_uri)
            except FileNotFoundError:  # another process has sent it in the meantime
                continue
            except BlockingIOError as error:  # of a run that is at work, and sends it itself
                say(str(error))
                held += bool(run_id)
            except (OSError, RunTakenOver, ValueError) as error:
                print(f"sync: {error}", file=sys.stderr)
                held += 1
            else:
                say(str(sent))
                held += sent.is_kept
        if not journals:
            say(f"Nothing to send in {journal_directory()}.")
        if held:
            sys.exit(EXIT_FAILURE)


if __name__ == "__main__":
    sync()
