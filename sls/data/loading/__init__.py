"""The Dataset, its batches, and the processes that make them: begin with `dataset`."""
