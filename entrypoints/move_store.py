"""Tells a tracking store that its artifacts were moved: `python -m entrypoints.move_store --old DIR --new DIR`."""

from pathlib import Path

import click

from entrypoints.door import OPTION_SETTINGS, errors_exit, refuse_unknown, say
from entrypoints.options import parse_boolean, text_option
from sls.tracking.database import move_places
from sls.tracking.store import tracking_uri


@click.command("move_store", context_settings=OPTION_SETTINGS)
@text_option("old", "the directory that was moved, as it was called")
@text_option("new", "what it is called now")
@text_option("apply", "true: write it; otherwise it is counted only")
@click.pass_context
def move_store(context: click.Context, old: str, new: str, apply: str) -> None:
    """Rewrite where the artifacts of a store lie, after it was moved. It needs no run of its own."""
    with errors_exit("move_store"):
        refuse_unknown(context)
        is_applied = parse_boolean("apply", apply)
        for name, path in (("old", old), ("new", new)):
            if not Path(path).is_absolute():
                raise ValueError(f"{name}: found {path or 'nothing'}, expected a whole path")
        if not Path(new).is_dir():
            raise ValueError(f"new: no directory {new}")
        moved = list(move_places(tracking_uri(), old.rstrip("/"), new.rstrip("/"), is_dry=not is_applied))
        for column, count in moved:
            say(f"{count:6} {column}")
        hint = "Nothing was written; --apply true writes it. Back up the database first."
        say("Written." if is_applied else hint)


if __name__ == "__main__":
    move_store()
