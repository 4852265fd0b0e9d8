"""What every door shares: the tracked run, the log, and how errors end."""

import functools
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from mlflow.exceptions import MlflowException
from requests import RequestException
from rich.console import Console
from rich.logging import RichHandler

from sls.config import PROJECT_ROOT, WORK_ROOT
from sls.config_file import RETIRED, check_field_name, config_fields
from sls.files import write_failure
from sls.quotation import did_you_mean
from sls.tracking.active_run import tracked_run
from sls.tracking.run import one_line
from sls.tracking.sender import RecordingsRefused
from sls.tracking.signals import Terminated
from sls.tracking.writer import RunTakenOver

EXIT_FAILURE = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
EXPECTED = (
    ValueError,
    OSError,
    MlflowException,
    FloatingPointError,
    MemoryError,
    RunTakenOver,
    RecordingsRefused,
)
# All of them are an OSError too, some of those of requests a ValueError.
SERVER_FAILURES = (ConnectionError, TimeoutError, RequestException)

console = Console(markup=False, emoji=False, quiet=os.environ.get("RANK", "0") not in ("", "0"))
"""Tables and progress bars; the bars are quiet when nobody watches, and all is in processes after the first.

Names of users are text, whatever stands in brackets."""
_log_console = Console(stderr=True)

OPTION_SETTINGS: dict[str, Any] = {
    "ignore_unknown_options": True,
    "allow_extra_args": True,
    "token_normalize_func": lambda name: name.replace("-", "_"),
}
"""Of a command line: what is unknown is told by `refuse_unknown`, and `--batch-size` is `--batch_size`."""


def say(text: str) -> None:
    """Prints lines for a person, which no width of a terminal breaks."""
    console.print(text, highlight=False, soft_wrap=True)


def door_command(kind: str, *, journal: bool = False) -> Callable[[Callable[..., None]], click.Command]:
    """Makes a door of a function `(run, **options)`: a click command whose whole work is one tracked run.

    What is typed wrongly is found inside the run, so that a run that `mlflow run` has opened says why it failed.
    With `journal`, the run goes on while the tracking server is away; an option `resume` takes a run up again.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        @click.command(kind, context_settings=OPTION_SETTINGS)
        @click.pass_context
        @functools.wraps(function)
        def command(context: click.Context, **options: Any) -> None:
            resume = options.get("resume", "")
            with errors_exit(kind), tracked_run(kind, journal=journal, resume=resume) as run:
                refuse_unknown(context)
                function(run, **options)

        return command

    return decorate


def refuse_unknown(context: click.Context) -> None:
    """Raises a `ValueError` for what the user typed and the door does not know."""
    for argument in context.args:
        if not argument.startswith("--"):
            continue
        name = argument.removeprefix("--").split("=")[0].replace("-", "_")
        taken = sorted(parameter.name or "" for parameter in context.command.params)
        takes_every_field = {spec.name for spec in config_fields()} <= set(taken)
        if takes_every_field or name in RETIRED:
            check_field_name(name, "the command line")
        hint = did_you_mean(name, taken, f"; it takes {', '.join(taken)}")
        raise ValueError(f"{context.command.name} does not take {name}{hint}")
    if context.args:
        raise ValueError(f"{context.command.name}: found {context.args[0]}, expected --name value")


@contextmanager
def errors_exit(kind: str) -> Iterator[None]:
    """Sets up the log, and turns errors into one line and an exit code.

    Bad input, a `ValueError` or an `OSError`, exits with 2 and one line on standard error. With 1 and one line exit a
    tracking server that fails or refuses a recording, a run that another process took over, a loss that is not finite
    and too little memory.
    The traceback is an artifact of the run; set SLS_DEBUG=1 to see it at once.
    """
    _set_up_log()
    if WORK_ROOT != PROJECT_ROOT:
        logging.info("the project is a temporary clone: what is made here goes to %s", WORK_ROOT / "outputs")
    try:
        yield
    except KeyboardInterrupt as error:
        sys.exit(EXIT_TERMINATED if isinstance(error, Terminated) else EXIT_INTERRUPTED)
    except Exception as error:
        is_full = bool(write_failure(error))
        if os.environ.get("SLS_DEBUG") or not (is_full or isinstance(error, EXPECTED)):
            raise
        print(f"{kind}: {one_line(error)}", file=sys.stderr)
        is_bad_input = isinstance(error, (ValueError, OSError)) and not isinstance(error, SERVER_FAILURES)
        sys.exit(EXIT_BAD_INPUT if is_bad_input or is_full else EXIT_FAILURE)


class _LineFormatter(logging.Formatter):
    """A line of plain text, which begins with WARNING or ERROR where it is one: no colour tells them apart."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno < logging.WARNING else f"{record.levelname}: {text}"


def _set_up_log() -> None:
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    handler: logging.Handler = logging.StreamHandler()
    handler.setFormatter(_LineFormatter())
    if _log_console.is_terminal:
        handler = RichHandler(console=_log_console, show_path=False, show_time=False)
        handler.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in ("mlflow", "alembic", "httpx", "httpcore", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It prints the traceback of what it then raises: that the database is read-only, say.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    for repetitive in ("huggingface_hub", "urllib3"):  # they warn at each of several tries
        logging.getLogger(repetitive).setLevel(logging.ERROR)
