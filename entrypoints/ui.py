"""Starts the tracking UI, light: `make ui`. One worker and no job runner take a fifth of the usual memory."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import mlflow

from sls.tracking.comparison_view import newest_main_run, share_comparison
from sls.tracking.store import connect, experiment_id


@click.command()
@click.option("--port", default=5000, help="port on 127.0.0.1")
def ui(port: int) -> None:
    """Start mlflow ui and print the link to the view in which the recipes stand side by side."""
    client = connect()
    experiment, uri = experiment_id(client), mlflow.get_tracking_uri()
    is_served = uri.startswith("http")
    address = uri.rstrip("/") if is_served else f"http://127.0.0.1:{port}"
    link = share_comparison(client, experiment, newest_main_run(client, experiment), address)
    print(f"Compare the recipes: {link}", flush=True)
    print(f"All runs:            {address}/#/experiments/{experiment}/runs", flush=True)
    if is_served:
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
