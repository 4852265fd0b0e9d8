"""PyTorch's files of a later pickle protocol, told in protocol 2, which PyTorch reads without running code."""

import pickle
import pickletools
import re
import shutil
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sls.files import scratch_directory

ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_HEAD = re.compile(
    rb"\x80([\x02-\x05])(?:\x95.{8})?\x8a\n", re.DOTALL
)  # its first object is a long number
LEGACY_PICKLES = 4
"""Magic number, protocol, system, object: the head of a file older than PyTorch 1.6; a list of storages follows."""
MAX_TOLD_AGAIN = 1 << 24
"""So that a small file cannot ask for all memory: names of weights come to a thousandth of it."""
_HEAD_BYTES = 16
_READ_PROTOCOL = 2


def is_zip(path: Path) -> bool:
    """Whether the file begins as PyTorch's of today do."""
    with path.open("rb") as file:
        return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC


def is_legacy(path: Path) -> bool:
    """Whether the file begins as PyTorch's before 1.6 did, in any protocol."""
    with path.open("rb") as file:
        return _LEGACY_HEAD.match(file.read(_HEAD_BYTES)) is not None


@contextmanager
def in_protocol_2(path: Path) -> Iterator[Path]:
    """Gives a file of protocol 2 itself, and of a later one a copy in that protocol, which goes with the block."""
    with scratch_directory() as directory:
        copy = directory / path.name
        if is_zip(path):
            with zipfile.ZipFile(path) as archive:
                pickled = next((name for name in archive.namelist() if name.endswith("data.pkl")), "")
                if pickled and _protocol_of(archive.open(pickled)) > _READ_PROTOCOL:
                    _copy_archive(archive, pickled, copy)
        else:
            with path.open("rb") as source:
                if _protocol_of(source) > _READ_PROTOCOL:
                    copy.write_bytes(b"".join(retell(source) for _ in range(LEGACY_PICKLES + 1)))
                    with copy.open("ab") as target:
                        shutil.copyfileobj(source, target)
        yield copy if copy.is_file() else path


def _protocol_of(file: IO[bytes]) -> int:
    """Returns the protocol of the pickle with which a file begins; the file is left at its begin."""
    head = file.read(2)
    file.seek(0)
    return head[1]


def _copy_archive(archive: zipfile.ZipFile, pickled: str, copy: Path) -> None:
    if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
        raise ValueError("found a compressed archive, expected one as torch.save writes it")
    with zipfile.ZipFile(copy, "w") as copied:
        for name in archive.namelist():
            with archive.open(name) as source, copied.open(name, "w", force_zip64=True) as target:
                if name == pickled:
                    target.write(retell(source))
                else:
                    shutil.copyfileobj(source, target)


def retell(file: IO[bytes]) -> bytes:
    """Returns the next pickle of a file with the instructions of protocol 2; what has none there stays as it is.

    Texts that the pickle keeps to use again are told again instead, so that each name of a class is plain to see.

    Raises:
        ValueError: it is no whole pickle, or puts the name of a class together.
    """
    told: list[bytes | str] = []
    kept: dict[int, str] = {}
    num_kept = num_again = 0
    instructions: Iterator[tuple[pickletools.OpcodeInfo, Any, Any]] = pickletools.genops(file)
    for instruction, argument, position in instructions:
        name = instruction.name
        if name == "PROTO":
            told.append(pickle.PROTO + bytes([_READ_PROTOCOL]))
        elif name.endswith("BINUNICODE") or name == "BINUNICODE8":
            told.append(argument)
        elif "BINBYTES" in name:
            told.append(_tell_bytes(argument))
        elif name.endswith("BINGET") and argument in kept:
            told.append(kept[argument])
            num_again += len(kept[argument])
            if num_again > MAX_TOLD_AGAIN:
                raise ValueError(f"texts of more than {MAX_TOLD_AGAIN} characters are used again")
        elif name == "MEMOIZE":
            if isinstance(told[-1], str):
                kept[num_kept] = told[-1]
            else:
                told.append(pickle.LONG_BINPUT + struct.pack("<I", num_kept))
            num_kept += 1
        elif name == "STACK_GLOBAL":
            qualified, module = told.pop(), told.pop()
            if not (isinstance(module, str) and isinstance(qualified, str)) or "\n" in module + qualified:
                raise ValueError("the name of a class is not told as it is")
            told.append(pickle.GLOBAL + f"{module}\n{qualified}\n".encode())
        elif name != "FRAME":
            end = file.tell()
            file.seek(position)
            told.append(file.read(end - position))
    return b"".join(_tell_text(part) if isinstance(part, str) else part for part in told)


def _tell_text(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _tell_bytes(content: bytes) -> bytes:
    """As protocol 2 does: by a call of `codecs.encode`, which PyTorch admits."""
    texts = _tell_text(content.decode("latin1")) + _tell_text("latin1")
    return pickle.GLOBAL + b"_codecs\nencode\n" + texts + pickle.TUPLE2 + pickle.REDUCE
