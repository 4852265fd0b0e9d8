"""JSON that others wrote."""

import pytest

from sls.plain_data import MAX_DEPTH, check_depth, parse_json


def test_json_is_parsed():
    assert parse_json('{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 2, 900, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a": ', "}")])
def test_json_that_is_too_deep_is_refused(depth: int, opening: str, closing: str):
    with pytest.raises(ValueError, match=f"more than {MAX_DEPTH} levels"):
        parse_json(opening * depth + "1" + closing * depth)


def test_what_is_shared_is_looked_at_once_and_what_holds_itself_is_refused():
    shared: list[object] = [1]
    for _ in range(MAX_DEPTH - 2):
        shared = [shared, shared]
    check_depth(shared)
    shared.append(shared)
    with pytest.raises(ValueError, match="levels"):
        check_depth(shared)
