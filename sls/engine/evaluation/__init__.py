"""From scores and a key to every number of a report: begin with `evaluation` and `comparison`."""
