"""The doors: one thin click command each."""
