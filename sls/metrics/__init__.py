"""Detection metrics: pure functions of NumPy arrays."""
