"""Everything as MLflow runs: begin with `run`, then the room of what you follow."""
