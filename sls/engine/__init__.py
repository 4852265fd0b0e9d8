"""Training, scoring and evaluation: they compute and yield, and record nothing."""
