"""What a container says of its own length, held against its file: decoders take what is there for the whole.

Chunks, boxes, objects and elements say their sizes (here); the pages of Ogg and the frames of MP3 and AAC follow one
another (`frames`). Checksums are checked where a container has them. Where it has none, as around PCM or in M4A, what
is altered within its length is not seen here. FLAC is held to its length and its checksums by its decoders.
"""

import re
import struct
import zlib
from collections.abc import Callable
from typing import BinaryIO

from sls.data.audio.containers import HEAD_BYTES, count_tag_bytes, name_container
from sls.data.audio.frames import NotWholeError, check_frames, check_ogg, cut_short

_STREAMED_BYTES = 2**31 - 2**16  # sizes from here on are what writers to a pipe put for "not known"
_WIDE = 2**32 - 1  # "in the chunk ds64"
_SPH_FIELD = re.compile(rb"^(sample_count|sample_n_bytes|channel_count) -i (\d+)", re.MULTILINE)
_MP4_NAME = re.compile(rb"[\w \xa9-]{4}")

# Of Matroska (RFC 9559): the masters that are entered, and all that may lie in them.
_SEGMENT, _CLUSTER = "18538067", "1f43b675"
_EBML_IDS = frozenset(
    f"1a45dfa3 {_SEGMENT} 114d9b74 1549a966 1654ae6b {_CLUSTER} 1c53bb6b 1941a469 1043a770 1254c367 "
    "5854 ec bf e7 a7 ab a3 a0 af".split()
)
_CRC_HEAD = b"\xbf\x84"


def check_whole(file: BinaryIO) -> bytes | None:
    """Holds a recording to what its container says of its length, and to its checksums.

    Args:
        file: The recording.

    Returns:
        The content of a WAV file whose header was never finished, with the size that it has; None for any other.

    Raises:
        AudioError: it ends before its end, or is damaged, or as `count_tag_bytes`.
    """
    end = file.seek(0, 2)
    file.seek(0)
    head = file.read(HEAD_BYTES)
    if head[:4] == b"fLaC":
        return None
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
        return _check_riff(file, head, end)
    if check := _CHECKS.get(head[:4]):
        check(file, end)
        return None
    place = count_tag_bytes(file)
    file.seek(place)
    container = name_container(file.read(HEAD_BYTES))
    if container == "mov":
        _check_tiles(file, place, end, 8, _mp4_box)
    elif container in ("mp3", "aac"):
        file.seek(0)
        check_frames(file.read(), place)
    return None


def _check_riff(file: BinaryIO, head: bytes, end: int) -> bytes | None:
    """Follows the chunks of WAV and AIFF, as `check_whole` says."""
    order = "<" if head[:4] in (b"RIFF", b"RF64") else ">"
    chunk, form_end = struct.Struct(f"{order}4sI"), 8 + struct.unpack(f"{order}I", head[4:8])[0]
    place, block, wide_place, wide_size = 12, 1, 0, 0
    while place + chunk.size <= end:
        file.seek(place)
        name, size = chunk.unpack(file.read(chunk.size))
        start = place + chunk.size
        if name == b"ds64" and start + 16 <= end:
            wide_place, (form_end, wide_size) = start + 8, struct.unpack("<QQ", file.read(16))
            form_end += 8
        elif name == b"fmt " and start + 14 <= end:
            block = max(1, struct.unpack(f"{order}12xH", file.read(14))[0])
        elif name in (b"data", b"SSND", b"BODY"):
            size = wide_size if wide_place and size == _WIDE else size
            if name == b"data" and _is_unfinished(file, start, size, end, form_end):
                field = (wide_place, "<Q") if wide_place else (place + 4, f"{order}I")
                return _finish(file, *field, end - start, block)
            if start + size > end:
                raise cut_short(end - start, size, "bytes of samples")
        place = start + size + size % 2
    if form_end > end and place not in (end, end + 1):
        raise cut_short(end, form_end, "bytes")
    return None


def _is_unfinished(file: BinaryIO, start: int, size: int, end: int, form_end: int) -> bool:
    """Whether a size of samples is no size: 0 before samples, what pipes put, or what the size of the form denies.

    A size that is too large by the header cannot be told from a recording that lacks as much, where both agree.
    """
    if size == 0 and start < end:
        file.seek(start)
        name, first = struct.unpack("<4sI", file.read(8).ljust(8))
        return not name.isalnum() or start + 8 + first > end
    is_denied = form_end == end or (size == end and form_end < start + size)
    return start + size > end and (size >= _STREAMED_BYTES or is_denied)


def _finish(file: BinaryIO, place: int, form: str, size: int, block: int) -> bytes:
    if size % block:
        raise NotWholeError(
            f"has a header that was never finished, and ends within a sample, after {size} bytes"
        )
    file.seek(0)
    content = bytearray(file.read())
    content[4:8] = struct.pack(form[0] + "I", min(len(content) - 8, _WIDE))
    struct.pack_into(form, content, place, size if form[1] == "Q" else min(size, _WIDE))
    return bytes(content)


def _check_tiles(
    file: BinaryIO, place: int, end: int, least: int, read_head: Callable[[bytes], tuple[str, int] | None]
) -> None:
    """Follows parts that lie side by side up to the end; the head of each gives its name, and all of its bytes.

    No part has fewer than `least` bytes.
    """
    while place + least <= end:
        file.seek(place)
        part = read_head(file.read(24).ljust(24, b"\0"))
        if part is None:  # runs to the end, or is what other programs have put behind it
            return
        name, size = part
        if place + size > end:
            raise cut_short(end - place, size, f"bytes of {name}")
        place += size


def _mp4_box(head: bytes) -> tuple[str, int] | None:
    size, name, long_size = struct.unpack(">I4sQ", head[:16])
    if size == 0:
        return None
    size = long_size if size == 1 else size
    if size < 8 or not _MP4_NAME.fullmatch(name):
        raise NotWholeError("damaged: found something else between its boxes")
    return name.decode("latin-1"), size


def _caf_chunk(head: bytes) -> tuple[str, int] | None:
    name, size = struct.unpack(">4sq", head[:12])
    return None if (name, size) == (b"data", -1) else (f"the chunk {name!r}", 12 + size % 2**63)


def _w64_chunk(head: bytes) -> tuple[str, int] | None:
    size = struct.unpack("<16xQ", head)[0]
    return (f"the chunk {head[:4]!r}", -(-size // 8) * 8) if size >= 24 else None


def _asf_object(head: bytes) -> tuple[str, int] | None:
    size = struct.unpack("<16xQ", head)[0]
    return ("an object of ASF", size) if size >= 24 else None


def _check_w64(file: BinaryIO, end: int) -> None:
    file.seek(16)
    said = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))[0]
    if said > end:
        raise cut_short(end, said, "bytes")
    _check_tiles(file, 40, end, 24, _w64_chunk)


def _check_au(file: BinaryIO, end: int) -> None:
    file.seek(0)
    magic, start, size = struct.unpack("4s4s4s", file.read(12).ljust(12, b"\0"))
    first, said = (int.from_bytes(item, "big" if magic == b".snd" else "little") for item in (start, size))
    if first + said > end and said != _WIDE:
        raise cut_short(max(0, end - first), said, "bytes of samples")


def _check_sph(file: BinaryIO, end: int) -> None:
    file.seek(0)
    head = file.read(1024)
    fields = {name: int(value) for name, value in _SPH_FIELD.findall(head)}
    if b"sample_count" not in fields or not head[8:16].strip().isdigit():
        raise NotWholeError("damaged: its header does not tell how many samples there are")
    said = fields[b"sample_count"] * fields.get(b"sample_n_bytes", 1) * fields.get(b"channel_count", 1)
    start = int(head[8:16])
    if start + said > end and b"shorten" not in head:
        raise cut_short(max(0, end - start), said, "bytes of samples")


def _check_matroska(file: BinaryIO, end: int) -> None:
    """Follows the elements of Matroska and WebM, into the segment and its clusters, whose sizes may be unknown."""
    file.seek(0)
    data, place, ends = file.read(), 0, [end]
    while place < end:
        name, size_place = _read_ebml_id(data, place)
        size, start = _read_ebml_size(data, size_place)
        is_entered = name in (_SEGMENT, _CLUSTER)
        if name not in _EBML_IDS or (size is None and not is_entered):
            raise NotWholeError(f"damaged: found no element of Matroska at byte {place}")
        last = end if size is None else start + size
        if last > end:
            raise cut_short(end - start, last - start, f"bytes of the element {name}")
        if not _has_its_checksum(data, start, last):
            raise NotWholeError(f"damaged: the checksum of the element at byte {place} is of something else")
        if is_entered and size is not None:
            ends.append(last)
        place = start if is_entered else last
        while place >= ends[-1] and len(ends) > 1:
            if place > ends.pop():
                raise NotWholeError(f"damaged: elements overlap before byte {place}")


def _has_its_checksum(data: bytes, start: int, last: int) -> bool:
    """Whether the checksum that may stand first in an element is that of the rest of it."""
    if data[start : start + 2] != _CRC_HEAD:
        return True
    return zlib.crc32(data[start + 6 : last]) == int.from_bytes(data[start + 2 : start + 6], "little")


def _read_ebml_id(data: bytes, place: int) -> tuple[str, int]:
    """Returns an element's name in hexadecimal digits, and the place behind it."""
    length = 9 - data[place].bit_length()
    return data[place : place + length].hex(), place + length


def _read_ebml_size(data: bytes, place: int) -> tuple[int | None, int]:
    """Returns an element's size, None where it is unknown, and the place behind it."""
    length = 9 - data[place].bit_length() if place < len(data) else 1
    value = int.from_bytes(data[place : place + length]) & (mask := 2 ** (7 * length) - 1)
    return None if value == mask else value, place + length


def _check_pages(file: BinaryIO, end: int) -> None:
    del end
    file.seek(0)
    check_ogg(file.read())


_CHECKS: dict[bytes, Callable[[BinaryIO, int], None]] = {
    b"OggS": _check_pages,
    b"\x1a\x45\xdf\xa3": _check_matroska,
    b"\x30\x26\xb2\x75": lambda file, end: _check_tiles(file, 0, end, 24, _asf_object),
    b"caff": lambda file, end: _check_tiles(file, 8, end, 12, _caf_chunk),
    b"riff": _check_w64,
    b".snd": _check_au,
    b"dns.": _check_au,
    b"NIST": _check_sph,
}
