"""Windows over a recording."""

import pytest

from sls.engine.windows import window_starts


@pytest.mark.parametrize(
    ("num_samples", "hop", "expected"),
    [
        (10, 5, [0]),
        (3, 5, [0]),
        (20, 5, [0, 5, 10]),
        (22, 5, [0, 5, 10, 12]),
        (22, 100, [0, 12]),
    ],
)
def test_windows_follow_each_other_and_the_last_ends_with_the_recording(
    num_samples: int, hop: int, expected: list[int]
) -> None:
    assert window_starts(num_samples, window=10, hop=hop) == expected


@pytest.mark.parametrize("sizes", [(0, 10, 5), (10, 0, 5), (10, 10, 0)])
def test_impossible_window_is_named(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="found 0, expected at least 1"):
        window_starts(*sizes)
