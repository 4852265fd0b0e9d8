"""Checkpoints, versions, stages and the model card: begin with `checkpoints` and `versions`."""
