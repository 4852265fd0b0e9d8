"""Evaluation and comparison as tracked runs: begin with `evaluation_run`."""
