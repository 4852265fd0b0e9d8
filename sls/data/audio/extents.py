"""What a container says of its own length, held against its file: decoders take what is there for the whole.

Boxes, objects and elements say their sizes (here), headers those of their samples (`headers`); the pages of Ogg and
the frames of MP3 and AAC follow one another (`frames`). Checksums are checked where a container has them. Where it
has none, as around PCM or in M4A, what is altered within its length is not seen here. FLAC is held to its length and
its checksums by its decoders.

Other programs put bytes behind a recording: tags, or zeros. Decoders are given the recording alone.
"""

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from sls.data.audio.containers import HEAD_BYTES, count_tag_bytes, name_container
from sls.data.audio.frames import NotWholeError, check_frames, check_ogg, cut_short, end_before_tags
from sls.data.audio.headers import SIZED_HEADERS, Extent

_MOOV, _MOOF, _MDAT = "moov", "moof", "mdat"  # the index of a whole MP4, of a part, and the packets
_MP4_NAMES = frozenset(
    f"{_MOOV} {_MOOF} {_MDAT} ftyp pdin mfra free skip wide meta uuid styp sidx ssix prft emsg pnot udta".split()
)
_MP4_NAME = re.compile(rb"[\w \xa9-]{4}")

_ASF_HEADER, _ASF_DATA = b"\x30\x26\xb2\x75", b"\x36\x26\xb2\x75"
_ASF_INDEXES = (b"\x90\x08\x00\x33", b"\xd3\x29\xe2\xd6", b"\xf8\x03\xb1\xfe", b"\xd0\x3f\xb7\x3c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_PACKET_PLACE = 92  # the bytes of a packet, in the object of that name
_ASF_DATA_BYTES = 50  # of the object that holds the packets, without them
_ASF_END = b"$E"  # of a stream: 12 bytes

# Of Matroska (RFC 9559): the masters that are entered, and all that may lie in them.
_EBML, _SEGMENT, _CLUSTER = "1a45dfa3", "18538067", "1f43b675"
_EBML_IDS = frozenset(
    f"{_EBML} {_SEGMENT} 114d9b74 1549a966 1654ae6b {_CLUSTER} 1c53bb6b 1941a469 1043a770 1254c367 "
    "5854 ec bf e7 a7 ab a3 a0 af".split()
)
# A cluster in the segment: the checksums of what lay deeper would be computed again and again.
_EBML_DEPTH = 2
_CRC_HEAD = b"\xbf\x84"
_OWN_ZEROS = 4  # less than so many end what is compressed; padded packets apart


@dataclass(frozen=True)
class Restored:
    """A recording as decoders are to read it: up to its end, with a header that says its size."""

    content: bytes
    is_unfinished: bool
    """Whether its own header does not say it."""


def check_whole(file: BinaryIO) -> Restored | None:
    """Holds a recording to its container's length and checksums; returns what to decode in its place, if not it.

    Raises:
        AudioError: it ends before its end, or is damaged, or as `count_tag_bytes`.
    """
    end = file.seek(0, 2)
    extent = _find_extent(file, end)
    if extent.stop >= end and not extent.is_unfinished:
        return None
    file.seek(0)
    content = bytearray(file.read(extent.stop))
    for place, value in extent.fields:
        content[place : place + len(value)] = value
    return Restored(bytes(content), extent.is_unfinished)


def _find_extent(file: BinaryIO, end: int) -> Extent:
    file.seek(0)
    first = file.read(4)
    if first == b"fLaC":
        return Extent(end)
    if check := SIZED_HEADERS.get(first) or _CHECKS.get(first):
        return check(file, end)
    place = count_tag_bytes(file)
    file.seek(place)
    container = name_container(file.read(HEAD_BYTES))
    if container == "mov":
        return _check_mp4(file, place, end)
    if container in ("mp3", "aac"):
        file.seek(0)
        return Extent(check_frames(file.read(), place))
    return Extent(end)


def _check_mp4(file: BinaryIO, place: int, end: int) -> Extent:
    """Follows the boxes of MP4, which lie side by side."""
    last, found = "", set[str]()
    while place + 8 <= end:
        file.seek(place)
        size, name, long_size = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
        size = long_size if size == 1 else size
        is_box = size >= 8 and _MP4_NAME.fullmatch(name) is not None
        box = name.decode("latin-1")
        if size == 0 and box in _MP4_NAMES:
            return Extent(end)
        if not is_box or (place + size > end and box not in _MP4_NAMES):
            is_whole = {_MOOV, _MDAT} <= found and last != _MOOF
            return _end_at(file, place, end, is_whole=is_whole)
        if place + size > end:
            raise cut_short(end - place, size, f"bytes of {box}")
        last = box
        found.add(box)
        place += size
    return Extent(place)


def _check_asf(file: BinaryIO, end: int) -> Extent:
    """Follows the objects of ASF; packets of a stream follow theirs, whose size was never put down, to the end."""
    place, packet, last = 0, 0, b""
    while place + 24 <= end:
        file.seek(place)
        name, size = struct.unpack("<4s12xQ", file.read(24))
        if size < 24 or (place + size > end and name not in (_ASF_HEADER, _ASF_DATA, *_ASF_INDEXES)):
            padding = _count_asf_padding(file, place, packet) if last == _ASF_DATA else 0
            is_whole = last in (_ASF_DATA, *_ASF_INDEXES)
            return _end_at(file, place, end, is_whole=is_whole, own_zeros=padding + _OWN_ZEROS)
        if name == _ASF_HEADER:
            packet = _read_asf_packet_bytes(file.read(min(size, end)))
        if name == _ASF_DATA and size <= _ASF_DATA_BYTES and packet:
            return _end_asf_stream(file, place + _ASF_DATA_BYTES, packet, end)
        if place + size > end:
            raise cut_short(end - place, size, "bytes of an object of ASF")
        last = name
        place += size
    return Extent(place)


def _read_asf_packet_bytes(header: bytes) -> int:
    """Returns the bytes of a packet, which all have; 0 where a header does not say it."""
    at = header.find(_ASF_PROPERTIES) + _ASF_PACKET_PLACE
    return int.from_bytes(header[at : at + 4], "little") if at >= _ASF_PACKET_PLACE else 0


def _count_asf_padding(file: BinaryIO, stop: int, size: int) -> int:
    """Returns how many zeros, and no other bytes, pad the last packet, of `size` bytes, before `stop`."""
    file.seek(max(0, stop - size))
    packet = file.read(size).ljust(32, b"\0")
    at = 1 + (packet[0] & 15) if packet[0] & 128 else 0  # behind what corrects errors
    # Bytes of the fields that say the packet's size, its number and its padding.
    sizes = [(0, 1, 2, 4)[packet[at] >> shift & 3] for shift in (5, 1, 3)]
    first = at + 2 + sizes[0] + sizes[1]
    padding = int.from_bytes(packet[first : first + sizes[2]], "little")
    if padding and any(packet[-padding:]):
        raise NotWholeError(f"damaged: something else than zeros pads its last packet, before byte {stop}")
    return padding


def _end_asf_stream(file: BinaryIO, start: int, packet: int, end: int) -> Extent:
    stop = end - (end - start) % packet
    file.seek(stop)
    rest = file.read()
    if start >= end or (rest and not (rest[:2] == _ASF_END and len(rest) == 12)):
        raise NotWholeError("has a header that was never finished, and ends within a packet")
    return Extent(stop, is_unfinished=True)


def _end_at(file: BinaryIO, place: int, end: int, *, is_whole: bool, own_zeros: int = _OWN_ZEROS) -> Extent:
    """Ends a recording at a place behind which is none of its parts.

    What other programs put there begins there: where it begins before, it stands for what was recorded.

    With `is_whole` nothing is missing up to that place; else tags and zeros alone may follow. With `own_zeros` at
    most a recording may end itself.

    Raises:
        NotWholeError: it is cut short, or something else follows a recording that may not be whole.
    """
    file.seek(0)
    data = file.read(end)
    tags = end_before_tags(data)
    rest = data[place:tags]
    if tags < place or (rest and not any(data[place - own_zeros : tags])):
        raise NotWholeError(f"cut short: tags or zeros stand for what was recorded before byte {place}")
    if any(rest) and not is_whole:
        raise NotWholeError(f"damaged: found no part of it at byte {place}")
    return Extent(place)


def _check_matroska(file: BinaryIO, end: int) -> Extent:
    """Follows the elements of Matroska and WebM, into the segment and its clusters, whose sizes may be unknown."""
    file.seek(0)
    data, place, ends, whole_at = file.read(), 0, [end], end
    while place < end:
        name, size_place = _read_ebml_id(data, place)
        size, start = _read_ebml_size(data, size_place)
        is_entered = name in (_SEGMENT, _CLUSTER)
        if place >= whole_at and name not in (_EBML, _SEGMENT):
            return _end_at(file, place, end, is_whole=True)
        is_too_deep = is_entered and len(ends) > _EBML_DEPTH
        if name not in _EBML_IDS or (size is None and not is_entered) or is_too_deep:
            if len(ends) > 1:  # within what has said its size
                raise NotWholeError(f"damaged: found no element of Matroska at byte {place}")
            return _end_at(file, place, end, is_whole=False)
        last = end if size is None else start + size
        if last > end:
            raise cut_short(end - start, last - start, f"bytes of the element {name}")
        if size is not None and not _has_its_checksum(data, start, last):
            raise NotWholeError(f"damaged: the checksum of the element at byte {place} is of something else")
        if is_entered and size is not None:
            ends.append(last)
            whole_at = last if name == _SEGMENT else whole_at
        place = start if is_entered else last
        while place >= ends[-1] and len(ends) > 1:
            if place > ends.pop():
                raise NotWholeError(f"damaged: elements overlap before byte {place}")
    return Extent(place)


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


def _check_pages(file: BinaryIO, end: int) -> Extent:
    file.seek(0)
    check_ogg(file.read())
    return Extent(end)


_CHECKS: dict[bytes, Callable[[BinaryIO, int], Extent]] = {
    b"OggS": _check_pages,
    b"\x1a\x45\xdf\xa3": _check_matroska,
    _ASF_HEADER: _check_asf,
}
