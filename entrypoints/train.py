"""Trains a countermeasure: `mlflow run . -e train -P patience=1`."""

from __future__ import annotations

from entrypoints.door import console, door_command
from entrypoints.options import DEFAULT_CONFIG, config_options, read_config, text_option
from entrypoints.progress import TrainingProgress
from sls.data.corpus import open_corpus
from sls.tracking.runs import TrackedRun
from sls.tracking.training import track_training


@door_command("train", journal=True)
@text_option("config", "YAML file with the recipe [default: configs/v1.yaml]")
@config_options()
def train(run: TrackedRun, config: str, **options: str) -> None:
    """Train a countermeasure. What is typed wins over the YAML file, which wins over the defaults."""
    settings = read_config(config or DEFAULT_CONFIG, options)
    corpus = open_corpus(settings.data)
    with TrainingProgress(settings.training.recipe) as progress:
        trained = track_training(run, settings, corpus, progress.on_step, progress.on_epoch)
    console.print(f"Chose epoch {trained.epoch} ({trained.rule}): {trained.uri}", soft_wrap=True)


if __name__ == "__main__":
    train()
