"""From the file of one recording to mono 16 kHz float32: begin with `recording`."""
