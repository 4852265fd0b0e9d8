"""How a checkpoint gets into the tracking store: the weights and what is known of them, as a LoggedModel.

Apart from `checkpoints`, which doors without neural work read too: this loads PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping

from sls.models.checkpoints import CheckpointInfo, save_checkpoint
from sls.models.countermeasure import Countermeasure
from sls.tracking.registry.checkpoints import epoch_name
from sls.tracking.run import TrackedRun

CHECKPOINT_FILE = "checkpoint.safetensors"


def log_checkpoint(
    run: TrackedRun, model: Countermeasure, info: CheckpointInfo, tags: Mapping[str, str]
) -> str:
    """Records a checkpoint as a LoggedModel; its weights are written once.

    Returns:
        What `run.log_metrics` and `run.delete_checkpoint` take; see `run.log_model`.
    """
    known = {"recipe": info.recipe, "epoch": None if info.epoch is None else str(info.epoch), **tags}
    given = {name: str(value) for name, value in known.items() if value}
    params = {name: value for name, value in given.items() if name in ("recipe", "epoch")}
    name = "imported" if info.epoch is None else epoch_name(info.epoch)
    with run.staging() as directory:
        save_checkpoint(directory / CHECKPOINT_FILE, model, info)
        return run.log_model(name, info.epoch or 0, given, params, files=directory)
