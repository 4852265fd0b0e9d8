"""Windows over a recording: where a countermeasure that hears a few seconds is asked along a longer one."""

from __future__ import annotations


def window_starts(num_samples: int, window: int, hop: int) -> list[int]:
    """Returns the first sample of each window: every `hop` samples, and one that ends with the recording.

    Args:
        num_samples: samples of the recording, at least one.
        window: samples of a window; a shorter recording is one window, which the model repeats.
        hop: samples from one window to the next.

    Raises:
        ValueError: a number below one.
    """
    for name, value in (("num_samples", num_samples), ("window", window), ("hop", hop)):
        if value < 1:
            raise ValueError(f"{name}: found {value}, expected at least 1")
    last = max(0, num_samples - window)
    return [*range(0, last, hop), last]
