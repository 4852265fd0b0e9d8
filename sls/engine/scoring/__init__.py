"""Scores of a list of trials, and what a killed process leaves behind: begin with `loop`."""
