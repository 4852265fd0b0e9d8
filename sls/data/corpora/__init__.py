"""Where a corpus lies, and what of it is there: begin with `corpus` and `track`."""
