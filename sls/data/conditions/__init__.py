"""Degradations of recordings, by which a countermeasure is tried outside the laboratory: begin with `conditions`."""
