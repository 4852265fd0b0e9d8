"""Starts the tracking UI, light: `make ui`. One worker and no job runner take a fifth of the usual memory."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import mlflow

from sls.tracking.comparison_view import LOCAL_PORT, find_newest_work, share_comparison, ui_address
from sls.tracking.store import connect, experiment_id


@click.command()
@click.option("--port", default=LOCAL_PORT, help="port on 127.0.0.1")
def ui(port: int) -> None:
    """Start mlflow ui and print the link to the view in which the recipes stand side by side."""
    client = connect()
    experiment, uri = experiment_id(client), mlflow.get_tracking_uri()
    compared = find_newest_work(client, experiment)
    if compared is not None:
        link = share_comparison(client, experiment, compared, port)
        print(f"Compare the recipes: {link}", flush=True)
    print(f"All runs:            {ui_address(uri, port)}/#/experiments/{experiment}/runs", flush=True)
    if uri.startswith("http"):
        return  # the tracking server has a UI of its own
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "ui",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_TRACKING_URI": uri}
    sys.exit(subprocess.call([*command, "--backend-store-uri", uri], env=environment))


if __name__ == "__main__":
    ui()
