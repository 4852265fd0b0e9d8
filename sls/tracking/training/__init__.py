"""Training as a tracked run: begin with `training_run`."""
