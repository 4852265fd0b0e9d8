"""Headers that say how many bytes of samples follow them: WAV, AIFF, Wave64, CAF, AU and SPHERE.

A recorder that writes to a pipe, or that is killed, leaves such a size unsaid. It is then that of all the bytes up to
the end of the file, which decoders are told in a header that is put right.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from sls.data.audio.frames import NotWholeError, cut_short

_STREAMED_BYTES = (
    2**31 - 2**16
)  # sizes of 32 bits from here on are what writers to a pipe put for "not known"
_WIDE_STREAMED_BYTES = 2**62  # and of 64 bits
_WIDE = 2**32 - 1  # "in the chunk ds64"
_SPH_FIELD = re.compile(rb"^(sample_count|sample_n_bytes|channel_count) -i (\d+)", re.MULTILINE)
_PACKED_FORMS = (0x50, 0x55)  # of WAV: MP2 and MP3, whose frames are of any number of bytes
_AU_SAMPLE_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
_CAF_NAMES = frozenset(
    b"desc data kuki pakt chan strg mark regn umid info edct uuid free midi ovvw peak inst".split()
)


@dataclass(frozen=True)
class Extent:
    """Where a recording ends in its file, and whether its header says so."""

    stop: int
    """The place behind its last byte."""
    is_unfinished: bool = False
    """Whether its header leaves that unsaid."""
    fields: tuple[tuple[int, bytes], ...] = ()
    """Places in the header, and what is to stand there."""


def check_riff(file: BinaryIO, end: int) -> Extent:
    """Follows the chunks of WAV and AIFF."""
    file.seek(0)
    head = file.read(12)
    order = "<" if head[:4] in (b"RIFF", b"RF64") else ">"
    chunk, form_end = struct.Struct(f"{order}4sI"), 8 + struct.unpack(f"{order}I", head[4:8])[0]
    place, block, wide_place, wide_size, stop = 12, 1, 0, 0, end
    while place + chunk.size <= end:
        file.seek(place)
        name, size = chunk.unpack(file.read(chunk.size))
        start = place + chunk.size
        if name == b"ds64" and start + 16 <= end:
            wide_place, (form_end, wide_size) = start + 8, struct.unpack("<QQ", file.read(16))
            form_end += 8
        elif name == b"fmt " and start + 14 <= end:
            form, block = struct.unpack(f"{order}H10xH", file.read(14))
            block = 1 if form in _PACKED_FORMS else max(1, block)
        elif name == b"COMM" and head[8:] == b"AIFF" and start + 8 <= end:
            channels, bits = struct.unpack(">H4xH", file.read(8))
            block = max(1, channels * -(-bits // 8))
        elif name in (b"data", b"SSND"):
            size = wide_size if wide_place and size == _WIDE else size
            ahead = 8 if name == b"SSND" else 0  # what its size counts before the samples
            said = max(0, size - ahead)
            if _is_unsaid(file, chunk, start + ahead, said, end, form_end):
                _check_block(end - start - ahead - _count_padding(file, end - start - ahead, block), block)
                field = (wide_place, "<Q") if wide_place else (place + 4, f"{order}I")
                fields = [(4, f"{order}I", end - 8), (*field, end - start)]
                return Extent(end, is_unfinished=True, fields=_pack(fields))
            if start + size > end:
                raise cut_short(end - start, size, "bytes of samples")
            if name != b"SSND":
                stop = min(end, max(form_end, start + size + size % 2))
        place = start + size + size % 2
    if form_end > end and place not in (end, end + 1):
        raise cut_short(end, form_end, "bytes")
    return Extent(stop)


def _is_unsaid(
    file: BinaryIO, chunk: struct.Struct, start: int, size: int, end: int, form_end: int | None = None
) -> bool:
    """Whether a size of samples is no size: 0 before samples, what pipes put, or what the size of the form denies.

    A size that is too large by the header cannot be told from a recording that lacks as much, where both agree.
    """
    if size == 0 and start < end:
        file.seek(start)
        name, first = chunk.unpack(file.read(chunk.size).ljust(chunk.size))
        return not name.isalnum() or start + chunk.size + first > end
    if form_end is None:
        return size >= _WIDE_STREAMED_BYTES
    is_denied = form_end == end or (size == end and form_end < start + size)
    return start + size > end and (size >= _STREAMED_BYTES or is_denied)


def _count_padding(file: BinaryIO, size: int, block: int) -> int:
    """Returns 1 where a zero ends a chunk of an odd number of bytes, as these formats have it, else 0."""
    file.seek(-1, 2)
    return int(size % 2 == 0 and size % block == 1 and file.read(1) == b"\0")


def _check_block(size: int, block: int) -> None:
    if size % block:
        raise NotWholeError(f"has an unfinished header, and ends within a sample, after {size} bytes")


def _pack(fields: list[tuple[int, str, int]]) -> tuple[tuple[int, bytes], ...]:
    """Returns numbers as bytes, in 32 bits none that is too large for them."""
    return tuple(
        (place, struct.pack(form, min(value, _WIDE) if form[1] == "I" else value))
        for place, form, value in fields
    )


def check_w64(file: BinaryIO, end: int) -> Extent:
    """Follows the chunks of Wave64, which have names and sizes of 24 bytes, and begin at multiples of 8."""
    chunk, place, block = struct.Struct("<16sQ"), 40, 1
    file.seek(16)
    said = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))[0]
    is_unsaid = said == 0 or said >= _WIDE_STREAMED_BYTES
    if said > end and not is_unsaid:
        raise cut_short(end, said, "bytes")
    stop = end if is_unsaid else min(end, -(-said // 8) * 8)
    while place + chunk.size <= stop:
        file.seek(place)
        name, size = chunk.unpack(file.read(chunk.size))
        start = place + chunk.size
        if name[:4] == b"fmt ":
            block = max(1, struct.unpack("<12xH", file.read(14).ljust(14, b"\0"))[0])
        elif name[:4] == b"data" and is_unsaid:
            said = max(0, size - chunk.size)
            if _is_unsaid(file, chunk, start, said, end):
                _check_block(end - start, block)
                fields = [(16, "<Q", end), (place + 16, "<Q", end - place)]
                return Extent(end, is_unfinished=True, fields=_pack(fields))
        if size < chunk.size:
            break
        if place + size > stop:
            raise cut_short(stop - place, size, f"bytes of the chunk {name[:4]!r}")
        place += -(-size // 8) * 8
    return Extent(stop)


def check_caf(file: BinaryIO, end: int) -> Extent:
    """Follows the chunks of Apple's Core Audio Format; what follows them under no name of a chunk is not its own."""
    chunk, place, block, has_samples = struct.Struct(">4sq"), 8, 1, False
    while place + chunk.size <= end:
        file.seek(place)
        name, size = chunk.unpack(file.read(chunk.size))
        start = place + chunk.size
        if has_samples and name not in _CAF_NAMES:
            return Extent(place)
        if name == b"desc":
            block = struct.unpack(">16xI", file.read(20).ljust(20, b"\0"))[0]
        elif name == b"data":
            has_samples = True
            said = max(0, size - 4) if size >= 0 else _WIDE_STREAMED_BYTES
            if _is_unsaid(file, chunk, start + 4, said, end):
                if block == 0:
                    raise NotWholeError("has a header that was never finished, and no table of its packets")
                _check_block(end - start - 4, block)
                return Extent(end, is_unfinished=True, fields=_pack([(place + 4, ">q", end - start)]))
        if size < 0 or start + size > end:
            raise cut_short(end - start, size % 2**63, f"bytes of the chunk {name!r}")
        place = start + size
    return Extent(end)


def check_au(file: BinaryIO, end: int) -> Extent:
    """Holds the samples of Sun's format to the size that its header says."""
    file.seek(0)
    head = file.read(24).ljust(24, b"\0")
    order = ">" if head[:4] == b".snd" else "<"
    start, size, encoding, _, channels = struct.unpack(f"{order}5I", head[4:])
    if size == _WIDE or (size == 0 and start < end):
        _check_block(end - start, max(1, _AU_SAMPLE_BYTES.get(encoding, 1) * channels))
        return Extent(end, is_unfinished=True, fields=_pack([(8, f"{order}I", end - start)]))
    if start + size > end:
        raise cut_short(max(0, end - start), size, "bytes of samples")
    return Extent(end)


def check_sph(file: BinaryIO, end: int) -> Extent:
    """Holds the samples of NIST's format to their number, which its header says in words."""
    file.seek(0)
    head = file.read(1024)
    fields = {name: int(value) for name, value in _SPH_FIELD.findall(head)}
    if b"sample_count" not in fields or not head[8:16].strip().isdigit():
        raise NotWholeError("damaged: its header does not tell how many samples there are")
    said = fields[b"sample_count"] * fields.get(b"sample_n_bytes", 1) * fields.get(b"channel_count", 1)
    start = int(head[8:16])
    if b"shorten" in head:
        return Extent(end)
    if said == 0 and start < end:
        _check_block(end - start, max(1, fields.get(b"sample_n_bytes", 1) * fields.get(b"channel_count", 1)))
        return Extent(end, is_unfinished=True)
    if start + said > end:
        raise cut_short(max(0, end - start), said, "bytes of samples")
    return Extent(start + said)


SIZED_HEADERS: dict[bytes, Callable[[BinaryIO, int], Extent]] = {
    **dict.fromkeys((b"RIFF", b"RIFX", b"RF64", b"FORM"), check_riff),
    **dict.fromkeys((b".snd", b"dns."), check_au),
    b"riff": check_w64,
    b"caff": check_caf,
    b"NIST": check_sph,
}
"""By the first four bytes of a file."""
