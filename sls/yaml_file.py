"""A YAML file as plain values, without the key that stands twice, of which YAML's own readers drop one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

from sls.plain_data import MAX_DEPTH
from sls.quotation import quote

_SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where it was built
MAX_VALUES = 20_000
"""Values in a file, what stands behind a reference counted wherever it is referred to."""
MAX_LENGTH = 10_000
"""Characters of one value: to read `1:1:1` as a number to base 60, as YAML does, takes the square of its length."""


def read_yaml(path: Path) -> Any:
    """Reads a YAML file; None for one without content.

    Raises:
        ValueError: not UTF-8, not YAML, larger than `_check_extent` allows, or a key that stands twice in a
            mapping; names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        _check_extent(yaml.parse(text, _SAFE_LOADER))
        loader = _SAFE_LOADER(text)
        node = loader.get_single_node()
        twice = None if node is None else _find_second_key(node)
        if twice is None:
            return None if node is None else loader.construct_document(node)
    except OSError:
        raise
    except Exception as error:  # not UTF-8, a date that no calendar has: PyYAML raises what a value leads to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: not YAML: {reason}") from None
    first, second = twice
    raise ValueError(
        f"{path}:{second.start_mark.line + 1}: found key {quote(second.value)} a second time "
        f"(first in line {first.start_mark.line + 1}), expected each key once"
    )


def _check_extent(events: Iterator[yaml.Event]) -> None:
    """Looks at a file event by event, before anything is made of it: its reader in C has no bound on depth.

    Raises:
        ValueError: It goes deeper than `MAX_DEPTH`, stands for more than `MAX_VALUES`, or has one over `MAX_LENGTH`.
    """
    counts: dict[str | None, int] = {}
    """Values behind each anchor."""
    open_values: list[tuple[str | None, int]] = []
    total = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in counts:
                raise ValueError(f"line {_line(event)}: found a reference to what is not whole before it")
            total += counts[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            counts.pop(event.anchor, None)
            open_values.append((event.anchor, total))
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_values.pop()
            counts[anchor] = total - before
        elif isinstance(event, yaml.ScalarEvent):
            if len(event.value) > MAX_LENGTH:
                raise ValueError(f"line {_line(event)}: found a value of more than {MAX_LENGTH} characters")
            counts[event.anchor] = 1
            total += 1
        if len(open_values) > MAX_DEPTH or total > MAX_VALUES:
            much = f"{MAX_DEPTH} levels" if len(open_values) > MAX_DEPTH else f"{MAX_VALUES} values"
            raise ValueError(f"line {_line(event)}: found more than {much} of lists and mappings")


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _find_second_key(root: Node) -> tuple[Node, Node] | None:
    """Finds the first key that stands twice, and where it stood before; what a merge brings in is another's."""
    open_nodes, seen = [root], set()
    while open_nodes:
        node = open_nodes.pop()
        if id(node) in seen:  # an anchor's
            continue
        seen.add(id(node))
        if isinstance(node, SequenceNode):
            open_nodes += reversed(node.value)
        elif isinstance(node, MappingNode):
            keys: dict[tuple[str, str], Node] = {}
            for key, _ in node.value:
                name = (key.tag, str(key.value))
                if name in keys:
                    return keys[name], key
                keys[name] = key
            open_nodes += [value for _, value in reversed(node.value)]
    return None
