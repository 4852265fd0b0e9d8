"""Device, precision, memory and the processes of one launch."""
