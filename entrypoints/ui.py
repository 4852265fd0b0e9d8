"""Starts the tracking UI, light: `make ui`. One worker and no job runner take a fifth of the usual memory."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import mlflow

from sls.tracking.store import connect, experiment_id


@click.command()
@click.option("--port", default=5000, help="port on 127.0.0.1")
def ui(port: int) -> None:
    """Start mlflow ui and print the link to the compare view of the experiment."""
    experiment = experiment_id(connect())
    address = f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs"
    print(f"Compare runs: {address}?compareRunsMode=CHART&workflowType=machine_learning", flush=True)
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
    uri = mlflow.get_tracking_uri()
    if uri.startswith("http"):
        print(f"The tracking server has a UI of its own: {uri}/#/experiments/{experiment}/runs")
        return
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_TRACKING_URI": uri}
    sys.exit(subprocess.call([*command, "--backend-store-uri", uri], env=environment))


if __name__ == "__main__":
    ui()
