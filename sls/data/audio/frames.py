"""Recordings that are rows of pages or frames: Ogg, whose pages are numbered and have checksums; MP3 and AAC."""

import math
import struct
import zlib
from functools import lru_cache

import numpy as np

from sls.data.audio.containers import AudioError, count_id3_bytes
from sls.quotation import count_of


class NotWholeError(AudioError):
    """A recording that is cut short or damaged; the message says how."""


_LAST_PAGE = 4
_HEADER_BYTES = 7  # of a frame: MPEG audio has four, AAC seven
_IS_BARE = 1  # the bit of the second byte of a frame that has no checksum of its own
_FEW = 2  # frames that other files may seem to begin with
_AAC = 4  # its layer is none of the three
_REVERSED_BITS = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))

# Of layers I, II and III of MPEG-1, and I and II or III of MPEG-2: kbit/s by the index in a frame's header.
_RATES_1 = (
    (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
_RATES_2 = (
    (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_SAMPLING_HZ = (44_100, 48_000, 32_000)

# Of the frame that Xing's encoder and LAME's put before the first one, from its four letters on.
_HAS_FRAMES, _HAS_ALL = 1, 15
_LAME_PLACE, _MUSIC_PLACE, _TAG_CRC_PLACE = 120, 148, 154
_LAME_WRITERS = (b"LAME", b"Lavf", b"Lavc")
"""Those that put checksums there; that of the frame itself holds of the first alone."""


def cut_short(found: int, said: int, unit: str) -> NotWholeError:
    """Returns the error of a recording that holds less than it says."""
    return NotWholeError(f"cut short: ends after {found} of {said} {unit}")


def check_ogg(data: bytes) -> None:
    """Raises NotWholeError unless Ogg's pages are whole, in order, the last one marked; RFC 3533, section 6."""
    place, numbers = 0, dict[int, int]()
    while place < len(data):
        if data[place : place + 4] != b"OggS":
            if not numbers:
                return  # behind the last page
            raise NotWholeError(f"damaged: found no page of Ogg at byte {place}")
        body = place + 27 + (data[place + 26] if place + 26 < len(data) else 0)
        end = body + sum(data[place + 27 : body])
        if body > len(data) or end > len(data):
            raise cut_short(len(data) - place, end - place, "bytes of a page")
        kind, stream, number, checksum = struct.unpack_from("<B8xIII", data, place + 5)
        page = data[place : place + 22] + bytes(4) + data[place + 26 : end]
        if _ogg_checksum(page) != checksum:
            raise NotWholeError(f"damaged: the checksum of the page at byte {place} is of something else")
        if place and not numbers:
            raise NotWholeError(f"found another recording behind the first one, at byte {place}")
        if number != numbers.get(stream, number):
            raise NotWholeError(f"damaged: found page {number} at byte {place}, expected {numbers[stream]}")
        numbers[stream] = number + 1
        if kind & _LAST_PAGE:
            del numbers[stream]
        place = end
    if numbers:
        raise NotWholeError(f"cut short: ends after {len(data)} bytes, without its last page")


def _ogg_checksum(page: bytes) -> int:
    """CRC-32 from the highest bit on and without inversions, by zlib's, which is from the lowest and with them."""
    mirrored = zlib.crc32(page.translate(_REVERSED_BITS), 2**32 - 1) ^ (2**32 - 1)
    return int(f"{mirrored:032b}"[::-1], 2)


def check_frames(data: bytes, place: int) -> int:
    """Follows the frames of MP3 (or MP1, MP2) or AAC from the first one, at `place`, to the end or the tags there.

    Their number is held to what Xing's header says, and their bytes to the checksum of LAME's.

    Returns:
        Where the last one ends: before tags, zeros, or whatever follows all the frames of Xing's header.

    Raises:
        NotWholeError: something else lies between them, the last one is not whole, some are missing, or their
            checksum is of something else.
    """
    start, end, count, first = place, end_before_tags(data), 0, data[place : place + _HEADER_BYTES]
    if _is_free_format(first):
        return len(data)  # its frames do not tell their size
    at = _find_xing(data, start, _frame_bytes(first))
    said = _count_xing_frames(data, at) if at else None
    while place < end:
        head = data[place : place + _HEADER_BYTES]
        size = _frame_bytes(head)
        if size and head[1] | _IS_BARE == first[1] | _IS_BARE:
            count += 1
        elif not (size := count_id3_bytes(data[place : place + 10])):  # of a file that was put behind another
            if data.count(0, place, end) == end - place:
                break
            if said is not None and said <= count <= said + 1:
                break
            if count < _FEW:
                raise AudioError(f"found {count_of(count, 'frame')} of MPEG audio, and then something else")
            raise NotWholeError(f"damaged: found no frame at byte {place}")
        if place + size > end:
            raise cut_short(end - place, size, "bytes of a frame")
        place += size
    if at:
        _check_xing(data, start, at, _frame_bytes(first), count)
    return place


def _find_xing(data: bytes, start: int, size: int) -> int:
    """Returns where in the first frame, of `size` bytes, Xing's header stands; 0 where it does not."""
    at = max(data.find(b"Xing", start, start + size), data.find(b"Info", start, start + size))
    return at if at > 0 and size >= at - start + _TAG_CRC_PLACE + 2 else 0


def _count_xing_frames(data: bytes, at: int) -> int | None:
    flags, said = struct.unpack_from(">II", data, at + 4)
    return said if flags & _HAS_FRAMES else None


def end_before_tags(data: bytes) -> int:
    """Returns where the tags at the end of a file begin: ID3's first version, enhanced or not, APE and Lyrics3."""
    end = len(data)
    while 0 < (size := _count_tag_bytes(data[max(0, end - 256) : end])) <= end:
        end -= size
    return end


def _count_tag_bytes(tail: bytes) -> int:
    """Returns the bytes of the tag that ends with these; 0 where none does."""
    if tail[-128:-125] == b"TAG":
        return 128
    if tail[-227:-223] == b"TAG+":
        return 227
    if tail[-32:-24] == b"APETAGEX":
        size, _, flags = struct.unpack("<III", tail[-20:-8])
        return int(size + (32 if flags >> 31 else 0))
    if tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
        return int(tail[-15:-9]) + 15
    return 0


def _check_xing(data: bytes, start: int, at: int, size: int, count: int) -> None:
    """Holds what was found to the header at `at`, in the first of `count` frames; not all writers count that one."""
    flags, said = struct.unpack_from(">I", data, at + 4)[0], _count_xing_frames(data, at)
    if said is not None and count < said:
        raise cut_short(count, said, "frames")
    if said is not None and count > said + 1:
        raise NotWholeError(f"found {count} frames, more than the {said} that it says: is one behind it?")
    if flags != _HAS_ALL or data[at + _LAME_PLACE : at + _LAME_PLACE + 4] not in _LAME_WRITERS:
        return
    length, checksum = struct.unpack_from(">IH", data, at + _MUSIC_PLACE)
    parts = [(start + size, start + length, checksum)]
    if data[at + _LAME_PLACE : at + _LAME_PLACE + 4] == _LAME_WRITERS[0]:
        parts.append((start, at + _TAG_CRC_PLACE, struct.unpack_from(">H", data, at + _TAG_CRC_PLACE)[0]))
    if any(said and _crc16(data[first:last]) != said for first, last, said in parts):
        raise NotWholeError("damaged: the checksum of its frames is of something else")


def _is_free_format(head: bytes) -> bool:
    if len(head) < 3 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    return head[1] & 0x06 != 0 and head[2] >> 4 == 0


def _frame_bytes(head: bytes) -> int:
    """Returns the bytes of the frame of MPEG audio or AAC that has this header; 0 where it is none."""
    if len(head) < _HEADER_BYTES or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    if layer == _AAC:
        return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    rate_index, index, padding = head[2] >> 2 & 3, head[2] >> 4, head[2] >> 1 & 1
    if version == 1 or rate_index == 3 or index in (0, 15):
        return 0
    rate_hz = _SAMPLING_HZ[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    bits_per_s = 1000 * (_RATES_1[layer - 1] if version == 3 else _RATES_2[layer > 1])[index]
    if layer == 1:
        return (12 * bits_per_s // rate_hz + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits_per_s // rate_hz + padding


def _crc16(data: bytes) -> int:
    """CRC-16 of polynomial 0x8005, from the lowest bit on: of many rows at once, which are then put together.

    Sixteen rows of zeros begin at one bit each; what becomes of them says what a row does to the bits before it.
    """
    length = math.isqrt(len(data)) + 1
    num_rows = -(-len(data) // length)
    rows = np.zeros((num_rows + 16, length), np.uint16)
    rows[:num_rows].reshape(-1)[num_rows * length - len(data) :] = np.frombuffer(data, np.uint8)
    states = np.zeros(num_rows + 16, np.uint16)
    states[num_rows:] = 1 << np.arange(16)
    table = _crc16_table()
    for column in np.ascontiguousarray(rows.T):
        states = table[(states ^ column) & 0xFF] ^ (states >> 8)
    found, passed = 0, states[num_rows:].tolist()
    for state in states[:num_rows].tolist():
        for bit, value in enumerate(passed):
            state ^= value * (found >> bit & 1)
        found = state
    return found


@lru_cache(maxsize=1)
def _crc16_table() -> np.ndarray:
    table: np.ndarray = np.arange(256, dtype=np.uint16)
    for _ in range(8):
        table = (table >> 1) ^ (table & 1) * np.uint16(0xA001)
    return table
