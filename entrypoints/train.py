"""Trains a countermeasure: `mlflow run . -e train -P patience=1`."""

from entrypoints.door import door_command, say
from entrypoints.options import DEFAULT_CONFIG, config_options, find_corpus, given, read_config, text_option
from entrypoints.progress import TrainingProgress
from sls.engine.compute.training_processes import join_processes
from sls.tracking.run import TrackedRun
from sls.tracking.training.training_run import resumed_config, track_training


@door_command("train", journal=True)
@text_option("config", "YAML file with the recipe [default: configs/v1.yaml]")
@text_option("resume", "id of a training run to go on with, where it was stopped")
@config_options()
def train(run: TrackedRun, config: str, resume: str, **options: str) -> None:
    """Train a countermeasure. What is typed wins over the YAML file, which wins over the defaults."""
    if resume and config:
        raise ValueError(f"config: found {config} beside resume, expected none: the run has its own")
    # The first process of a launch comes here when it has sent what was left of the run's journal.
    ranks = join_processes()
    run.run_id = ranks.share(run.run_id)
    with ranks.tell_failure():
        settings = (
            resumed_config(resume, given(options))
            if resume
            else read_config(config or DEFAULT_CONFIG, options)
        )
        corpus = find_corpus(settings.data)
    ranks.wait_for_all()
    with TrainingProgress(settings.training) as progress:
        trained = track_training(run, settings, corpus, progress.on_step, progress.on_epoch, resume=resume)
    say(f"Chose epoch {trained.epoch} ({trained.rule}): {trained.uri}")


if __name__ == "__main__":
    train()
