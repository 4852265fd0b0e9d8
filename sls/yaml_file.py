"""A YAML file as plain values, without the key that stands twice, of which YAML's own readers drop one."""

from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

from sls.quotation import quote

_SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where it was built


def read_yaml(path: Path) -> Any:
    """Reads a YAML file; None for one without content.

    Raises:
        ValueError: not UTF-8, not YAML, or a key that stands twice in one mapping; names file and line.
    """
    try:
        loader = _SAFE_LOADER(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        twice = None if node is None else _find_second_key(node)
        if twice is None:
            return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, or a date that no calendar has
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    first, second = twice
    raise ValueError(
        f"{path}:{second.start_mark.line + 1}: found key {quote(second.value)} a second time "
        f"(first in line {first.start_mark.line + 1}), expected each key once"
    )


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
