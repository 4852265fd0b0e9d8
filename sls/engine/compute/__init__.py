"""The device, and the processes of one launch."""
