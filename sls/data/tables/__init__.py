"""Protocols, keys, ASV scores and score files, read strictly: begin with `protocols` and `score_files`."""
