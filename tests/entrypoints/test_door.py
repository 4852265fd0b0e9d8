"""How errors end a door."""

import importlib

import pytest
import requests
from click.testing import CliRunner
from rich.table import Table

from entrypoints.choose import choose
from entrypoints.door import EXIT_BAD_INPUT, EXIT_FAILURE, console, errors_exit, say
from entrypoints.progress import open_ended_bar
from sls.tracking.writer import RunTakenOver


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("lr: found -1"), EXIT_BAD_INPUT),
        (FileNotFoundError("no file"), EXIT_BAD_INPUT),
        (ConnectionError("refused"), EXIT_FAILURE),
        (TimeoutError("no answer"), EXIT_FAILURE),
        (requests.ConnectionError("refused"), EXIT_FAILURE),
        (requests.ReadTimeout("no answer"), EXIT_FAILURE),
        (requests.HTTPError("403"), EXIT_FAILURE),
        (requests.JSONDecodeError("not JSON", "", 0), EXIT_FAILURE),
        (RunTakenOver("run 1a2b is written by another process"), EXIT_FAILURE),
    ],
    ids=lambda value: value if isinstance(value, int) else type(value).__name__,
)
def test_an_error_ends_a_door_with_one_line_and_a_code(error: Exception, code: int, capsys) -> None:
    with pytest.raises(SystemExit) as ended, errors_exit("score"):
        raise error
    assert ended.value.code == code
    assert capsys.readouterr().err.splitlines() == [f"score: {error}"]


DOORS = ("check_data", "choose", "compare", "epochs", "evaluate", "import_checkpoint", "join", "main")
DOORS += ("register", "score", "sync", "train")


@pytest.mark.parametrize("door", DOORS)
def test_every_option_is_taken_in_every_spelling(door: str) -> None:
    command = getattr(importlib.import_module(f"entrypoints.{door}"), door)
    for option in command.params:
        name = option.opts[0].removeprefix("--")
        dashed = name.replace("_", "-")
        for spelling in (name, dashed, name.replace("_", "-", 1)):
            for arguments in ([f"--{spelling}=8"], [f"--{spelling}", "8"]):
                context = command.make_context(door, arguments)
                assert context.params[option.name] == "8"
                assert context.args == []


def test_brackets_in_a_name_are_brackets_on_the_console() -> None:
    name = "x[/red] [bold]y[/bold] :smiley:"
    table = Table(title=name, caption=name)
    table.add_column(name)
    table.add_row(name)
    with console.capture() as captured:
        say(name)
        console.print(table)
    with open_ended_bar() as show:
        show(name, 1, 2)
    assert captured.get().count(name) == 5


def test_database_that_is_read_only_is_told_without_a_traceback(store, caplog) -> None:
    with pytest.MonkeyPatch.context() as patches:
        patches.setenv("MLFLOW_TRACKING_URI", f"sqlite:///file:{store}?mode=ro&uri=true")
        result = CliRunner().invoke(choose, ["--run_id", "0" * 32])
    assert result.exit_code == 1
    assert "readonly database" in result.stderr.splitlines()[-1]
    assert not [record for record in caplog.records if record.exc_info or "Traceback" in record.message]
