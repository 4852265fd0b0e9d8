"""Plain values that others wrote, in JSON, YAML or a pickle: held to a depth before they are used."""

import json
from typing import Any

MAX_DEPTH = 64
"""Lists and mappings in one another; what this project and others' tools write needs a dozen."""
_HOLDERS = (dict, list, tuple)


def parse_json(text: str | bytes) -> Any:
    """Parses JSON; raises ValueError where it is none, or lists and objects stand too deep in one another."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"found JSON more than {MAX_DEPTH} levels deep") from None
    check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Holds a value to `MAX_DEPTH`; each list or mapping is looked at once, however often it is referred to.

    Raises:
        ValueError: It goes deeper, or holds itself.
    """
    if isinstance(value, _HOLDERS):
        _count_levels(value, 0, {})


def _count_levels(holder: Any, depth: int, known: dict[int, int]) -> int:
    """Returns how many levels a list or mapping has, itself included, where it stands at a depth."""
    if id(holder) not in known:
        known[id(holder)] = MAX_DEPTH + 1  # should it hold itself
        parts = holder.values() if isinstance(holder, dict) else holder
        inner = (_count_levels(part, depth + 1, known) for part in parts if isinstance(part, _HOLDERS))
        known[id(holder)] = 1 + max(inner, default=0) if depth <= MAX_DEPTH else MAX_DEPTH + 1
    if depth + known[id(holder)] > MAX_DEPTH + 1:
        raise ValueError(f"found lists or mappings more than {MAX_DEPTH} levels deep")
    return known[id(holder)]
