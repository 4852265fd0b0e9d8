"""Starts the tracking UI, light: `make ui`. One worker and no job runner take a fifth of the usual memory."""

import os
import socket
import sys

import click
import mlflow

from entrypoints.door import errors_exit
from sls.tracking.evaluation.comparison_view import LOCAL_PORT, share_comparison
from sls.tracking.store import connect, experiment_id, require_answer


@click.command()
@click.option("--port", default=LOCAL_PORT, help="port on 127.0.0.1")
def ui(port: int) -> None:
    """Start mlflow ui and print the link to the view in which the recipes stand side by side."""
    with errors_exit("ui"):
        client, uri = connect(), mlflow.get_tracking_uri()
        require_answer(uri)
        is_local = not uri.startswith("http")  # a tracking server has a UI of its own
        if is_local:
            _check_is_free(port)
        link = share_comparison(client, experiment_id(client), port=port)
    all_runs, _, view = link.partition("?")
    if view:
        print(f"Compare the recipes: {link}", flush=True)
    print(f"All runs:            {all_runs}", flush=True)
    if not is_local:
        return
    command = f"-m mlflow ui --host 127.0.0.1 --port {port} --workers 1 --backend-store-uri".split()
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_TRACKING_URI": uri}
    # In the place of this process, so that what stops it stops the UI.
    os.execve(sys.executable, [sys.executable, *command, uri], environment)


def _check_is_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ValueError(
                f"port: found {port} taken ({error.strerror}), expected a free one: "
                "python -m entrypoints.ui --port N"
            ) from None


if __name__ == "__main__":
    ui()
