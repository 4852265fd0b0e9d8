"""Pickles told as plain values: no class is loaded and nothing of theirs is called.

What a pickle can ask for is bounded by its own length: a call that would copy is counted against it, one that would
make something of a size that it states (`bytearray(n)`) is kept as its name and arguments. Keys and shapes are flat:
tuples that hold one another by reference would take Python forever to hash, or end it.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO, Any, ClassVar, cast

import torch

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
_BASE = pickle._Unpickler.dispatch
_AS_PYTHON_DOES = (
    *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK, pickle.DUP),
    *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT, pickle.BININT1, pickle.BININT2),
    *(pickle.FLOAT, pickle.BINFLOAT, pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING),
    *(pickle.UNICODE, pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8),
    *(pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINBYTES8),
    *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT),
    *(pickle.GET, pickle.BINGET, pickle.LONG_BINGET, pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT),
    *(pickle.MEMOIZE, pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.BINPERSID),
)
"""Instructions that load and call nothing; what is neither here nor of our own is refused."""
_KEY_BITS = 64
"""Of a number that is a key or a length."""
_MAX_PARTS = 64
"""Of a shape, as in PyTorch, or of a key."""
_OTHER_STORAGES = {
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Untyped": torch.uint8,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}
"""Storages whose numbers are not called as PyTorch's types are in small letters."""


@dataclass(frozen=True)
class ClassName:
    """A class or function that a pickle names."""

    name: str


@dataclass(eq=False)
class StandIn:
    """An object of a class that is not loaded, or the result of a call that is not made."""

    name: str
    args: tuple[Any, ...]
    state: Any = None


@dataclass(frozen=True)
class StoredNumbers:
    """Numbers that lie in the file beside the pickle."""

    key: str
    dtype: torch.dtype
    count: int


@dataclass(eq=False)
class StoredTensor:
    """A tensor, not yet made: a view of stored numbers."""

    numbers: StoredNumbers
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _refuse(reader: Unpickler) -> None:
    raise ValueError("found an instruction that no file of weights needs")


def _bounded(load: Callable[[Any], None]) -> Callable[[Any], None]:
    """Returns an instruction that puts down a number, and refuses one of thousands of digits."""

    def load_number(reader: Unpickler) -> None:
        load(reader)
        if int(reader.stack[-1]).bit_length() > _MAX_BITS:
            raise ValueError(f"found {quote(reader.stack[-1])}, which no file of weights needs")

    return load_number


class Unpickler(pickle._Unpickler):
    """Python's own reader, in Python, but for what would load a class, call one or hash whatever it is given."""

    def __init__(self, file: IO[bytes], refused: set[str]) -> None:
        """Reads from where a file stands; notes as `refused` the names in it that no file of weights needs."""
        super().__init__(cast(Any, file), encoding="latin1")
        self.refused = refused
        self.stored: dict[str, StoredNumbers] = {}
        """Numbers that it tells of, by key."""
        self.stack: list[Any]
        self.pop_mark: Callable[[], list[Any]]
        self._file, self._start, self._num_copied = file, file.tell(), 0

    def find_class(self, module: str, name: str) -> ClassName:
        """Returns the name of a class or function, which stays a name."""
        if len(module) + len(name) > _MAX_NAME_LENGTH or not (module + name).isprintable():
            raise ValueError("the name of a class is not told as it is")
        full_name = f"{_PYTHON_2.get(module, module)}.{name}"
        if not _INERT.fullmatch(full_name):
            self.refused.add(full_name)
        return ClassName(full_name)

    def persistent_load(self, told: Any) -> StoredNumbers:
        """Returns the numbers that a pickle refers to."""
        if len(told) == 6 and told[5] is not None:
            raise ValueError("found a view of stored numbers in the form before PyTorch 0.4")
        kind, class_name, key, _, count = told[:5]
        if kind not in ("storage", b"storage") or not isinstance(count, int) or not isinstance(key, str):
            raise ValueError(f"found stored {quote([kind, key, count])}, expected numbers")
        return self.stored.setdefault(key, StoredNumbers(key, _dtype_of(class_name), count))

    def _call(self) -> None:
        called, args = self.stack[-2:]
        if not (isinstance(called, ClassName) and isinstance(args, tuple)):
            raise ValueError("the pickle calls what is no class")
        self.stack[-2:] = [self._make(called.name, args)]

    def _call_with_names(self) -> None:
        del self.stack[-1]  # what has names is not used
        self._call()

    def _make(self, name: str, args: tuple[Any, ...]) -> Any:
        """Returns what a call stands for; what it would copy is counted."""
        function = name.rpartition(".")[2]
        if name in _KEYED:
            items = args[0] if args and isinstance(args[0], (list, tuple, dict)) else ()
            self._count_copied(len(items))
            return _fill({}, items.items() if isinstance(items, dict) else items)
        if name == "_codecs.encode" and isinstance(args[0], str):  # how protocol 2 tells bytes
            self._count_copied(len(args[0]))
            return args[0].encode("latin1")
        if function == "_rebuild_from_type_v2" and isinstance(args[0], ClassName):
            return self._make(args[0].name, args[2])
        if function in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            return args[0]
        if function in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"):
            dtype = _dtype_of(args[6]) if function.endswith("v3") else args[0].dtype
            if any(isinstance(marks, dict) and marks for marks in args[6:8]):
                raise ValueError("found a tensor that is stored negated or conjugated")
            if not (_is_flat(args[2]) and _is_flat(args[3])):
                raise ValueError(f"found a shape that is none: {quote(args[2])}")
            return StoredTensor(args[0], dtype, *args[1:4])
        return StandIn(name, args)

    def _set_state(self) -> None:
        state = self.stack.pop()
        if isinstance(state, tuple) and all(part is None or isinstance(part, dict) for part in state):
            parts = [part for part in state if part]  # attributes, and those in slots
            self._count_copied(sum(map(len, parts)))
            state = {key: item for part in parts for key, item in part.items()}
        if isinstance(self.stack[-1], StandIn):  # the attributes of an OrderedDict, for one, are not used
            self.stack[-1].state = state

    def _count_copied(self, size: int) -> None:
        self._num_copied += size
        if self._num_copied > self._file.tell() - self._start:
            raise ValueError("found copies that are longer than the pickle itself")

    def _set_item(self) -> None:
        items = self.stack[-2:]
        del self.stack[-2:]
        self._fill_last(items)

    def _set_items(self) -> None:
        self._fill_last(self.pop_mark())

    def _put_dict(self) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self._fill_last(items)

    def _fill_last(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict:
            raise ValueError("the pickle fills what is no dict")
        _fill(self.stack[-1], zip(items[::2], items[1::2], strict=True))

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **dict.fromkeys(range(256), _refuse),
        **{code[0]: _BASE[code[0]] for code in _AS_PYTHON_DOES},
        **{
            code[0]: _bounded(_BASE[code[0]])
            for code in (pickle.INT, pickle.LONG, pickle.LONG1, pickle.LONG4)
        },
        **dict.fromkeys((pickle.REDUCE[0], pickle.NEWOBJ[0]), _call),
        pickle.NEWOBJ_EX[0]: _call_with_names,
        pickle.BUILD[0]: _set_state,
        pickle.DICT[0]: _put_dict,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        # A set is told as a list, and bytes that can change as bytes.
        pickle.EMPTY_SET[0]: _BASE[pickle.EMPTY_LIST[0]],
        pickle.ADDITEMS[0]: _BASE[pickle.APPENDS[0]],
        pickle.FROZENSET[0]: _BASE[pickle.LIST[0]],
        pickle.BYTEARRAY8[0]: _BASE[pickle.BINBYTES8[0]],
    }
    """What each instruction does."""


def _fill(target: dict[Any, Any], items: Iterable[Any]) -> dict[Any, Any]:
    for key, item in items:
        if not (_is_plain(key) or _is_flat(key) or isinstance(key, (StandIn, ClassName))):
            raise ValueError(f"found {quote(key)} as a key, expected a text or a number")
        target[key] = item
    return target


def _is_flat(value: Any) -> bool:
    """Whether a value is a short tuple of plain ones."""
    return isinstance(value, tuple) and len(value) <= _MAX_PARTS and all(map(_is_plain, value))


def _is_plain(value: Any) -> bool:
    """Whether a value is hashed in no time, and numbers to different places."""
    is_short = isinstance(value, int) and value.bit_length() < _KEY_BITS
    return is_short or isinstance(value, (str, bytes, float, type(None)))


def _dtype_of(named: Any) -> torch.dtype:
    """Returns the type of a tensor's numbers, from `torch.float32` or `torch.FloatStorage`."""
    name = named.name.rpartition(".")[2] if isinstance(named, ClassName) else ""
    stored = name.removesuffix("Storage")
    found = _OTHER_STORAGES.get(stored) or getattr(torch, stored.lower() or "_", None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"found numbers of the type {name}, expected one of PyTorch's")
    return found
