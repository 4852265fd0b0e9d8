"""Files of weights: fairseq's, Hugging Face's and published ones are read; our own are read and written."""

from sls.models.checkpoints.loading import Backend, LoadedCheckpoint, build_countermeasure, load_checkpoint
from sls.models.checkpoints.native import CheckpointInfo, save_checkpoint
from sls.models.checkpoints.sources import fetch

__all__ = [
    "Backend",
    "CheckpointInfo",
    "LoadedCheckpoint",
    "build_countermeasure",
    "fetch",
    "load_checkpoint",
    "save_checkpoint",
]
