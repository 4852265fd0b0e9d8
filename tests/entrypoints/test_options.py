"""Which seeds a recipe is trained by."""

import pytest

from entrypoints.options import MAX_SEEDS, with_seeds
from sls.config_file import build_config


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("", [7]),
        ("1", [7]),
        ("3", [7, 8, 9]),
        ("1234,", [1234]),
        ("1234,1,2", [1234, 1, 2]),
        (" 5 , 6 ", [5, 6]),
        (str(MAX_SEEDS), list(range(7, 7 + MAX_SEEDS))),
    ],
)
def test_a_number_alone_is_how_many_and_with_a_comma_a_seed(text: str, seeds: list[int]) -> None:
    config = build_config({"seed": 7, "lr": 0.1})
    configs = with_seeds(config, text)
    assert [item.training.seed for item in configs] == seeds
    assert all(item.to_flat() | {"seed": 7} == config.to_flat() for item in configs)


@pytest.mark.parametrize("text", ["0", "1234", "51", "a", "1,a", "1,1", ",", "-1,2", "1.5,2"])
def test_what_is_neither_a_small_number_nor_different_seeds_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"^seeds: found '{text}', expected .*1234,1,2"):
        with_seeds(build_config({}), text)


def test_a_seed_beside_a_list_of_seeds_is_refused_and_beside_a_number_the_first() -> None:
    config = build_config({"seed": 5})
    with pytest.raises(ValueError, match="seed: found 5 beside seeds 1,2"):
        with_seeds(config, "1,2", "5")
    assert [item.training.seed for item in with_seeds(config, "2", "5")] == [5, 6]
