"""Scoring as a tracked run: begin with `scoring_run`."""
