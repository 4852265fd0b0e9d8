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
        A handle that `run.log_metrics` and `run.delete_checkpoint` take; of a run without a journal the id of the
        LoggedModel.
    """
    known = {"recipe": info.recipe, "epoch": None if info.epoch is None else str(info.epoch), **tags}
    description = {
        "name": "imported" if info.epoch is None else epoch_name(info.epoch),
        "tags": {name: str(value) for name, value in known.items() if value},
        "params": {name: value for name in ("recipe", "epoch") if (value := known[name])},
        "step": info.epoch or 0,
    }
    with run.staging() as directory:
        save_checkpoint(directory / CHECKPOINT_FILE, model, info)
        return run.log_model(description, directory)
