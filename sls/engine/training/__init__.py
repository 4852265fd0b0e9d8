"""The training loop and what it needs: begin with `loop`."""
