"""Plain values that others wrote, in JSON, YAML or a pickle: held to a depth before they are used."""

import json
from typing import Any

MAX_DEPTH = 64
"""Lists and mappings in one another; what this project and others' tools write needs a dozen."""
_HOLDERS = (dict, list, tuple)


def parse_json(text: str | bytes) -> Any:
    """Parses JSON.

    Raises:
        ValueError: It is none, or lists and objects stand too deep in one another.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"found JSON more than {MAX_DEPTH} levels deep") from None
    check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Holds a value to `MAX_DEPTH`; each list or mapping is looked at once a level, however often it is referred to.

    Raises:
        ValueError: It goes deeper, or holds itself.
    """
    level = {id(value): value}
    for _ in range(MAX_DEPTH + 1):
        level = {
            id(part): part
            for holder in level.values()
            if isinstance(holder, _HOLDERS)
            for part in (holder.values() if isinstance(holder, dict) else holder)
            if isinstance(part, _HOLDERS)
        }
        if not level:
            return
    raise ValueError(f"found lists or mappings more than {MAX_DEPTH} levels deep")
