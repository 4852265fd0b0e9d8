"""PyTorch's pickled files, read without running any code of theirs."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import torch

# Which names a pickle holds, and which of them PyTorch admits, it tells in public of today's format alone.
from torch import _weights_only_unpickler as torch_pickles

from sls.models.checkpoints.pickle_protocol import LEGACY_PICKLES, in_protocol_2, is_legacy, is_zip

_INERT = re.compile(
    r"argparse\.Namespace|omegaconf\.[\w.]+|fairseq\.[\w.]+|typing\.\w+|enum\.\w+"
    r"|collections\.defaultdict|copyreg\._reconstructor"
    r"|numpy\.(?:_?core\.multiarray\.scalar|dtype|float64|float32|int64|bool_?)"
    r"|builtins\.(?:object|dict|list|tuple|str|int|float|bool|bytes|NoneType|type)"
)
"""Classes that configurations are made of. They are replaced by stand-ins that only keep what they are given."""
_SAFE_GLOBALS_LOCK = threading.Lock()  # PyTorch keeps the admitted classes in one place for all threads


class StandIn:
    """An object of a class that is not loaded: it keeps its arguments and state, and does nothing."""

    def __new__(cls, *args: Any) -> StandIn:
        """Keeps the arguments."""
        instance = super().__new__(cls)
        instance.__dict__["args"] = args
        return instance

    def __setstate__(self, state: Any) -> None:
        self.__dict__["state"] = state


def is_pickle(path: Path) -> bool:
    """Whether the file begins as PyTorch's do, in today's format or the one before 1.6."""
    return is_zip(path) or is_legacy(path)


def read_pickle(path: Path) -> Any:
    """Reads a file that `torch.save` wrote; the tensors stay on disk until they are used, where they can.

    Configuration objects (Namespace, OmegaConf, fairseq's classes) come back as plain dictionaries, lists
    and values.

    Raises:
        ValueError: if the file is damaged, or names a class or function that is not admitted.
    """
    try:
        with in_protocol_2(path) as readable:
            names = _list_foreign_names(readable)
            refused = sorted(name for name in names if not _INERT.fullmatch(name))
            if not refused:
                stand_ins: list[Any] = [(StandIn, name) for name in names]
                is_mapped = readable == path and is_zip(path)
                with _SAFE_GLOBALS_LOCK, torch.serialization.safe_globals(stand_ins):
                    return to_plain(
                        torch.load(readable, map_location="cpu", weights_only=True, mmap=is_mapped)
                    )
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a whole PyTorch file: {reason}") from error
    raise ValueError(
        f"{path}: refused, and nothing of it was run: found {', '.join(refused)}, expected tensors and plain "
        "configuration alone, as torch.save(model.state_dict(), FILE) writes them"
    )


def _list_foreign_names(path: Path) -> set[str]:
    """Returns the names of the classes and functions in a file that PyTorch does not admit by itself."""
    if is_zip(path):
        return set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    with path.open("rb") as file:
        found = (torch_pickles.get_globals_in_pkl(file) for _ in range(LEGACY_PICKLES))
        return set().union(*found) - set(torch_pickles._get_allowed_globals())


def to_plain(value: Any, seen: dict[int, Any] | None = None) -> Any:
    """Returns the value with every stand-in replaced by the plain dictionary, list or value that it held.

    Args:
        value: What a file held.
        seen: The results so far by identity, so that what is shared stays shared; an object inside itself
            becomes None.
    """
    seen = {} if seen is None else seen
    if not isinstance(value, (StandIn, dict, list, tuple)):
        return value
    if id(value) not in seen:
        seen[id(value)] = None
        seen[id(value)] = _convert(value, seen)
    return seen[id(value)]


def _convert(value: Any, seen: dict[int, Any]) -> Any:
    if isinstance(value, StandIn):
        held = value.__dict__["held"] = _held_by(value)  # kept alive: `seen` goes by identity
        return to_plain(held, seen)
    if isinstance(value, dict):
        return {key: to_plain(item, seen) for key, item in value.items() if not isinstance(key, StandIn)}
    return [to_plain(item, seen) for item in value]


def _held_by(stand_in: StandIn) -> Any:
    """Returns what matters of an object: OmegaConf's content, attributes, or arguments."""
    state, args = stand_in.__dict__.get("state"), stand_in.__dict__["args"]
    if isinstance(state, tuple) and all(part is None or isinstance(part, dict) for part in state):
        state = {key: item for part in state for key, item in (part or {}).items()}  # attributes, slots
    if isinstance(state, dict) and ("_content" in state or "_val" in state):  # a container, a node
        return state["_content"] if "_content" in state else state["_val"]
    return state or (args[0] if len(args) == 1 else args)
