"""What a person needs next, at the end of an experiment: to look at the runs, and to serve the champion."""

from __future__ import annotations

from mlflow import MlflowClient

from entrypoints.door import console
from sls.tracking.registry.stages import find_champion


def print_next_commands(client: MlflowClient, link: str) -> None:
    """Says how to compare the recipes, by a link into the UI, and how to serve the champion if there is one."""
    # Where a tracking server is up, its UI is too.
    before = "" if client.tracking_uri.startswith("http") else "make ui, then "
    lines = ["", f"Compare the recipes: {before}{link}"]
    if find_champion(client):
        serve = "mlflow models serve -m models:/xlsr-sls@champion --env-manager local -p 5001"
        lines.append(f"Serve the champion:  {serve}")
    console.print("\n".join(lines), highlight=False, soft_wrap=True)
