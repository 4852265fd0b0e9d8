"""Chooses the epoch of a training run anew: `mlflow run . -e choose -P run_id=RUN_ID -P by=val/eer_percent`."""

from entrypoints.door import door_command, say
from entrypoints.options import parse_count, text_option
from sls.tracking.registry.epoch_choice import choose_again
from sls.tracking.run import TrackedRun


@door_command("choose")
@text_option("run_id", "the training run")
@text_option(
    "by", "the metric whose lowest value chooses, as logged by epoch [default: what the recipe monitors]"
)
@text_option(
    "average", "choose the mean of the weights of so many best epochs [default: 1, the best one alone]"
)
def choose(run: TrackedRun, run_id: str, by: str, average: str) -> None:
    """Choose the epoch of a training run anew, from what it logged. Nothing is trained."""
    trained = choose_again(run.client, run_id, by, parse_count("average", average, 1))
    run.set_tags({"train_run_id": trained.run_id, "epoch": trained.epoch, "chosen_by": trained.rule})
    say(f"Chose {trained.told}: {trained.uri}")


if __name__ == "__main__":
    choose()
