"""The model that `mlflow models serve` runs: begin with `pyfunc`, then `answers`."""
