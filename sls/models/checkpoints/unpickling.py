"""Pickles told as plain values: no class is loaded and nothing of theirs is called.

What a pickle can ask for is bounded by its own length: a call that would copy is counted against it, one that would
make something of a size that it states (`bytearray(n)`) is kept as its name and arguments. Keys and shapes are flat:
tuples that hold one another by reference would take Python forever to hash, or end it.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from sls.models.checkpoints.pickled_values import (
    ClassName,
    StandIn,
    StoredNumbers,
    StoredTensor,
    dtype_of,
    is_flat,
    is_plain,
)
from sls.quotation import quote

_INERT = re.compile(
    r"argparse\.Namespace|omegaconf\.[\w.]+|fairseq\.[\w.]+|typing\.\w+|enum\.\w+"
    r"|collections\.(?:OrderedDict|defaultdict|Counter)|copyreg\._reconstructor|_codecs\.encode"
    r"|numpy\.(?:_?core\.multiarray\.scalar|dtype|float64|float32|int64|bool_?)"
    r"|builtins\.(?:object|dict|list|tuple|set|frozenset|str|unicode|int|long|float|bool|complex|bytes|bytearray|NoneType|type)"
    r"|torch\.(?:storage\.)?\w+Storage|torch\.(?:Size|Tensor|device|u?int\d+|b?float\d+\w*|bool|complex\d+)"
    r"|torch\.torch_version\.TorchVersion|torch\.nn\.parameter\.Parameter|torch\.serialization\._get_layout"
    r"|torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_from_type_v2"
)
"""Names that files of weights hold: tensors, and what configurations are made of."""
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
"""Python 2's name of a module, which protocol 2 keeps, and today's."""
_KEYED = ("collections.OrderedDict", "collections.defaultdict", "collections.Counter")
_MAX_BITS = 1_000
"""Of a number."""
_MAX_NAME_LENGTH = 500
_BY_REFERENCE = ("EXT1", "EXT2", "EXT4", "PERSID")
"""Instructions that put down what their argument only refers to."""


@dataclass
class Unpickler:
    """Reads one pickle of any protocol."""

    refused: set[str] = field(default_factory=set)
    """Names in it that no file of weights needs."""
    stored: dict[str, StoredNumbers] = field(default_factory=dict)
    """Numbers that it tells of, by key."""
    _stack: list[Any] = field(default_factory=list)
    _below: list[list[Any]] = field(default_factory=list)
    """What was on the stack before each open mark."""
    _memo: dict[int, Any] = field(default_factory=dict)
    _num_copied: int = 0

    def read(self, file: IO[bytes]) -> Any:
        """Returns the value of the next pickle in a file, and leaves the file behind it.

        Raises:
            ValueError: It is no whole pickle, or asks for more than it holds.
            Exception: Whatever else a broken one leads to.
        """
        start = file.tell()
        for instruction, argument, position in pickletools.genops(file):
            name = instruction.name
            if name == "STOP":
                return self._stack.pop()
            if name in _STEPS:
                _STEPS[name](self, argument)
            elif not _puts_down(instruction) or argument is None:
                raise ValueError(f"found the instruction {name}, which no file of weights needs")
            elif isinstance(argument, int) and argument.bit_length() > _MAX_BITS:
                raise ValueError(f"found {quote(argument)}, which no file of weights needs")
            else:
                self._put(argument)  # a number, a text or bytes
            if self._num_copied > (position or 0) - start:
                raise ValueError("found copies that are longer than the pickle itself")
        raise ValueError("found no end of the pickle")

    def _put(self, value: Any) -> None:
        self._stack.append(value)

    def _mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def _memorise(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def _take_marked(self) -> list[Any]:
        marked, self._stack = self._stack, self._below.pop()
        return marked

    def _take(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise ValueError("the pickle takes what it has not put down")
        taken = self._stack[-count:]
        del self._stack[-count:]
        return taken

    def _extend(self, items: list[Any]) -> None:
        self._target(list).extend(items)

    def _set_items(self, items: list[Any]) -> None:
        _fill(self._target(dict), zip(items[::2], items[1::2], strict=True))

    def _target(self, kind: type) -> Any:
        target = self._stack[-1]
        if type(target) is not kind:
            raise ValueError(f"the pickle fills what is no {kind.__name__}")
        return target

    def _name(self, module: Any, name: Any) -> None:
        is_told = isinstance(module, str) and isinstance(name, str)
        if not is_told or len(module) + len(name) > _MAX_NAME_LENGTH or not (module + name).isprintable():
            raise ValueError("the name of a class is not told as it is")
        full_name = f"{_PYTHON_2.get(module, module)}.{name}"
        if not _INERT.fullmatch(full_name):
            self.refused.add(full_name)
        self._put(ClassName(full_name))

    def _call(self, called: Any, args: Any) -> None:
        if not (isinstance(called, ClassName) and isinstance(args, tuple)):
            raise ValueError("the pickle calls what is no class")
        self._put(self._make(called.name, args))

    def _make(self, name: str, args: tuple[Any, ...]) -> Any:
        """Returns what a call stands for; what it would copy is counted."""
        function = name.rpartition(".")[2]
        if name in _KEYED:
            items = args[0] if args and isinstance(args[0], (list, tuple, dict)) else ()
            self._num_copied += len(items)
            return _fill({}, items.items() if isinstance(items, dict) else items)
        if name == "_codecs.encode" and isinstance(args[0], str):  # how protocol 2 tells bytes
            self._num_copied += len(args[0])
            return args[0].encode("latin1")
        if function == "_rebuild_from_type_v2" and isinstance(args[0], ClassName):
            return self._make(args[0].name, args[2])
        if function in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            return args[0]
        if function in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"):
            dtype = dtype_of(args[6]) if function.endswith("v3") else args[0].dtype
            if any(isinstance(marks, dict) and marks for marks in args[6:8]):
                raise ValueError("found a tensor that is stored negated or conjugated")
            if not (is_flat(args[2]) and is_flat(args[3])):
                raise ValueError(f"found a shape that is none: {quote(args[2])}")
            return StoredTensor(args[0], dtype, *args[1:4])
        return StandIn(name, args)

    def _set_state(self, state: Any) -> None:
        if isinstance(state, tuple) and all(part is None or isinstance(part, dict) for part in state):
            parts = [part for part in state if part]  # attributes, and those in slots
            self._num_copied += sum(map(len, parts))
            state = {key: item for part in parts for key, item in part.items()}
        if isinstance(self._stack[-1], StandIn):  # the attributes of an OrderedDict, for one, are not used
            self._stack[-1].state = state

    def _store(self, told: Any) -> None:
        if len(told) == 6 and told[5] is not None:
            raise ValueError("found a view of stored numbers in the form before PyTorch 0.4")
        kind, class_name, key, _, count = told[:5]
        if kind not in ("storage", b"storage") or not isinstance(count, int) or not isinstance(key, str):
            raise ValueError(f"found stored {quote([kind, key, count])}, expected numbers")
        self._put(self.stored.setdefault(key, StoredNumbers(key, dtype_of(class_name), count)))


_STEPS: Mapping[str, Callable[[Unpickler, Any], object]] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda reader, argument: None),
    "NONE": lambda reader, _: reader._put(None),
    "NEWTRUE": lambda reader, _: reader._put(True),
    "NEWFALSE": lambda reader, _: reader._put(False),
    "EMPTY_TUPLE": lambda reader, _: reader._put(()),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_SET"), lambda reader, _: reader._put([])),
    "EMPTY_DICT": lambda reader, _: reader._put({}),
    "MARK": lambda reader, _: reader._mark(),
    "POP": lambda reader, _: reader._stack.pop() if reader._stack else reader._take_marked(),
    "POP_MARK": lambda reader, _: reader._take_marked(),
    "DUP": lambda reader, _: reader._put(reader._stack[-1]),
    "MEMOIZE": lambda reader, _: reader._memorise(len(reader._memo)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda reader, place: reader._memorise(place)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda reader, place: reader._put(reader._memo[place])),
    "GLOBAL": lambda reader, text: reader._name(*text.split(" ", 1)),
    "STACK_GLOBAL": lambda reader, _: reader._name(*reader._take(2)),
    "TUPLE": lambda reader, _: reader._put(tuple(reader._take_marked())),
    "TUPLE1": lambda reader, _: reader._put(tuple(reader._take(1))),
    "TUPLE2": lambda reader, _: reader._put(tuple(reader._take(2))),
    "TUPLE3": lambda reader, _: reader._put(tuple(reader._take(3))),
    **dict.fromkeys(("LIST", "FROZENSET"), lambda reader, _: reader._put(reader._take_marked())),
    "APPEND": lambda reader, _: reader._extend(reader._take(1)),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda reader, _: reader._extend(reader._take_marked())),
    "SETITEM": lambda reader, _: reader._set_items(reader._take(2)),
    "SETITEMS": lambda reader, _: reader._set_items(reader._take_marked()),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda reader, _: reader._call(*reader._take(2))),
    "NEWOBJ_EX": lambda reader, _: reader._call(*reader._take(3)[:2]),
    "BUILD": lambda reader, _: reader._set_state(reader._stack.pop()),
    "BINPERSID": lambda reader, _: reader._store(reader._stack.pop()),
}
"""What each instruction does, beside those that put down their argument."""


def _fill(target: dict[Any, Any], items: Iterable[Any]) -> dict[Any, Any]:
    for key, item in items:
        if not (is_plain(key) or is_flat(key) or isinstance(key, (StandIn, ClassName))):
            raise ValueError(f"found {quote(key)} as a key, expected a text or a number")
        target[key] = item
    return target


def _puts_down(instruction: pickletools.OpcodeInfo) -> bool:
    """Whether an instruction does nothing but put down its argument."""
    is_alone = not instruction.stack_before and len(instruction.stack_after) == 1
    return is_alone and instruction.name not in _BY_REFERENCE
