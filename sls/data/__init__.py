"""Corpora on disk, from a tracks file to batches: begin with `corpora`."""
