"""PyTorch's pickled files, today's and those before 1.6, read without running any code of theirs.

Before anything is made of a file, what it holds is known: its numbers lie within it and are not compressed, so that
no tensor is longer than the file.
"""

import io
import math
import mmap
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from sls.models.checkpoints.unpickling import ClassName, StandIn, StoredNumbers, StoredTensor, Unpickler
from sls.plain_data import check_depth
from sls.quotation import first_line, list_some, quote, shorten

_ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_HEAD = re.compile(
    rb"\x80([\x02-\x05])(?:\x95.{8})?\x8a\n", re.DOTALL
)  # its first object is a long number
_HEAD_BYTES = 16
_LEGACY_PREAMBLE = 3
"""Pickles of a file older than PyTorch 1.6 before its object: magic number, protocol, system."""
_LOCAL_HEADER = struct.Struct("<26xHH")
"""Of a member of a zip archive: the lengths of its name and of what comes between the name and the content."""
_COUNT = struct.Struct("<q")
ALIGNMENT_BYTES = 8
"""Of the longest number; what `torch.save` writes lies on more."""


def is_pickle(path: Path) -> bool:
    """Whether the file begins as PyTorch's do, in today's format or the one before 1.6."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return head.startswith(_ZIP_MAGIC) or _LEGACY_HEAD.match(head) is not None


def read_pickle(path: Path) -> Any:
    """Reads a file that `torch.save` wrote; the tensors stay on disk until they are used, where they can.

    Configuration objects (Namespace, OmegaConf, fairseq's classes) come back as plain dictionaries, lists
    and values. Where the file has checksums, as PyTorch writes them since 1.6, its content is held to them.

    Raises:
        ValueError: if the file is damaged, asks for more than it holds, or names a class or function that is not
            admitted.
    """
    refused: set[str] = set()
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            if content[: len(_ZIP_MAGIC)] == _ZIP_MAGIC:
                told, starts = _read_archive(path, content, refused)
            else:
                told, starts = _read_legacy(content, refused)
        if not refused:
            plain = _Plain(_Storages(path, starts).tensor).of(told)
            check_depth(plain)
            return plain
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        if not refused:
            raise ValueError(f"{path}: not a whole PyTorch file: {first_line(error)}") from error
    raise ValueError(
        f"{path}: refused, and nothing of it was run: found {list_some(sorted(refused))}, "
        "expected tensors and plain configuration alone, as torch.save(model.state_dict(), FILE) writes them"
    )


def _read_archive(path: Path, content: mmap.mmap, refused: set[str]) -> tuple[Any, dict[str, range]]:
    """Returns what the pickle of an archive says, and where the numbers of each key lie in the file."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("found a compressed archive, expected one as torch.save writes it")
    if sum(member.file_size for member in members) > len(content):
        raise ValueError("found an archive whose parts overlap")
    places = {}
    for member in members:
        lengths = _LOCAL_HEADER.unpack_from(content, member.header_offset)
        start = member.header_offset + _LOCAL_HEADER.size + sum(lengths)
        places[member.filename] = range(start, start + member.file_size)
        _check_part(content, places[member.filename], member)
    pickled = next((name for name in places if name.endswith("data.pkl")), None)
    if pickled is None:
        raise ValueError("found an archive without data.pkl")
    root = pickled.removesuffix("data.pkl")
    order = places.get(f"{root}byteorder", range(0))
    if content[order.start : order.stop] not in (b"", b"little"):
        raise ValueError("found numbers in big-endian order, expected little")
    prefix = f"{root}data/"
    told = Unpickler(io.BytesIO(content[places[pickled].start : places[pickled].stop]), refused).load()
    return told, {
        name.removeprefix(prefix): place for name, place in places.items() if name.startswith(prefix)
    }


def _check_part(content: mmap.mmap, place: range, member: zipfile.ZipInfo) -> None:
    """Compares a part with its checksum; 0 is what `torch.save` writes where it was told to compute none."""
    if place.stop > len(content):
        raise ValueError(f"{member.filename} is cut")
    with memoryview(content) as view, view[place.start : place.stop] as part:
        if member.CRC and zlib.crc32(part) != member.CRC:
            raise ValueError(f"{member.filename} does not have its checksum: the file is damaged")


def _read_legacy(content: mmap.mmap, refused: set[str]) -> tuple[Any, dict[str, range]]:
    """Returns what a file before PyTorch 1.6 says, and where its numbers lie: behind its pickles, key by key."""
    file = cast(IO[bytes], content)  # it is read as one
    for _ in range(_LEGACY_PREAMBLE):
        Unpickler(file, set()).load()
    unpickler = Unpickler(file, refused)
    told = unpickler.load()
    keys = Unpickler(file, set()).load()
    starts, position = {}, content.tell()
    for key in keys:
        (count,) = _COUNT.unpack_from(content, position)
        numbers = unpickler.stored.get(key) if isinstance(key, str) else None
        if numbers is None or numbers.count != count:
            raise ValueError(f"found {count} numbers of key {quote(key)}, which the pickle tells otherwise")
        position += _COUNT.size
        starts[key] = range(position, position + count * numbers.dtype.itemsize)
        position = starts[key].stop
    if position > len(content):
        raise ValueError("the file is cut")
    return told, starts


class _Storages:
    """Stored numbers of a file, mapped: its places by key, and the tensors that are views of them."""

    def __init__(self, path: Path, places: dict[str, range]) -> None:
        size = path.stat().st_size
        self._mapped = torch.UntypedStorage.from_file(str(path), False, size)
        self._places = places
        self._made: dict[str, torch.UntypedStorage] = {}

    def tensor(self, told: StoredTensor) -> Tensor:
        """Makes a tensor; raises ValueError where it would have more numbers than are stored, or goes beyond them."""
        numbers, shape = told.numbers, (told.size, told.stride)
        count = math.prod(told.size)
        steps = sum((length - 1) * step for length, step in zip(*shape, strict=True))
        needed = max(count, told.offset + steps + 1) if count else 0
        held = numbers.count * numbers.dtype.itemsize // told.dtype.itemsize
        # PyTorch would make the storage longer.
        if min((told.offset, *told.size, *told.stride), default=0) < 0 or needed > held:
            raise ValueError(f"found a tensor of shape {quote(told.size)} beyond its {held} numbers")
        return torch.empty(0, dtype=told.dtype).set_(self._storage(numbers), told.offset, *shape)

    def _storage(self, numbers: StoredNumbers) -> torch.UntypedStorage:
        if numbers.key not in self._made:
            place, num_bytes = self._places[numbers.key], numbers.count * numbers.dtype.itemsize
            if not 0 <= num_bytes <= len(place):
                raise ValueError(f"found {len(place)} bytes of {shorten(numbers.key)}, expected {num_bytes}")
            storage = self._mapped[place.start : place.start + num_bytes]
            self._made[numbers.key] = storage.clone() if place.start % ALIGNMENT_BYTES else storage
        return self._made[numbers.key]


@dataclass
class _Plain:
    """Replaces every stand-in by the plain dictionary, list or value that it held, and makes the tensors."""

    make_tensor: Callable[[StoredTensor], Tensor]
    _seen: dict[int, Any] = field(default_factory=dict)
    """The results so far by identity, so that what is shared stays shared; an object inside itself becomes None."""

    def of(self, value: Any) -> Any:
        """Returns the value in plain."""
        if not isinstance(value, (StandIn, StoredTensor, dict, list, tuple)):
            return None if isinstance(value, (ClassName, StoredNumbers)) else value
        if id(value) not in self._seen:
            self._seen[id(value)] = None
            self._seen[id(value)] = self._convert(value)
        return self._seen[id(value)]

    def _convert(self, value: Any) -> Any:
        if isinstance(value, StoredTensor):
            return self.make_tensor(value)
        if isinstance(value, StandIn):
            return self.of(_held_by(value))
        if isinstance(value, dict):
            told = (StandIn, ClassName)
            return {key: self.of(item) for key, item in value.items() if not isinstance(key, told)}
        return [self.of(item) for item in value]


def _held_by(stand_in: StandIn) -> Any:
    """Returns what matters of an object: OmegaConf's content, attributes, or arguments."""
    state, args = stand_in.state, stand_in.args
    if isinstance(state, dict) and ("_content" in state or "_val" in state):  # a container, a node
        return state["_content"] if "_content" in state else state["_val"]
    return state or (args[0] if len(args) == 1 else args)
