"""Recordings opened by FFmpeg as what their first bytes say.

Left alone, it takes an empty file for whatever its name ends in, and what looks like a list of files (concat,
HLS) or a description of a session (SDP) makes it open other files, or sockets.
"""

import io
from typing import BinaryIO

import av
from av.container import InputContainer

HEAD_BYTES = 12
"""By so many first bytes a format is known."""
MAX_ID3_TAGS = 8
"""Before a recording; writers put one, and a second by mistake."""

_ID3_HEADER_BYTES = 10
_ID3_HAS_FOOTER = 0x10
_BLOCK_BYTES = 2**16
_FIRST_BYTES = {
    b"fLaC": "flac",
    b"OggS": "ogg",
    b"FORM": "aiff",
    b"#!AM": "amr",
    b"\x1a\x45\xdf\xa3": "matroska",  # WebM too
    b"\x30\x26\xb2\x75": "asf",  # WMA
}


class AudioError(ValueError):
    """A recording that cannot be used; the message says why."""


def open_container(content: str | bytes) -> InputContainer:
    """Opens a recording, a path or the content of a file, with the demuxer of its format alone.

    Raises:
        ValueError: it begins like none of WAV, FLAC, MP3, M4A, OGG, AAC, AIFF, AMR, WMA and WebM, or with many ID3
            tags.
        FFmpegError: FFmpeg does not read it.
    """
    with open_bytes(content) as file:
        head = file.read(HEAD_BYTES)
        place = count_tag_bytes(file)
        file.seek(place)
        # Tags stand most often before MP3, which FFmpeg finds behind whatever follows them.
        container = name_container(file.read(HEAD_BYTES)) or ("mp3" if place else None)
    if container is None:
        found = f"a file that begins with {head!r}" if head else "an empty file"
        raise ValueError(f"found {found}, expected WAV, FLAC, MP3, M4A, OGG, AAC, AIFF, AMR, WMA or WebM")
    return av.open(io.BytesIO(content) if isinstance(content, bytes) else content, mode="r", format=container)


def open_bytes(content: str | bytes) -> io.BytesIO | io.FileIO:
    """Opens a path, or the content of a file, for reading."""
    return io.BytesIO(content) if isinstance(content, bytes) else io.FileIO(content)


def name_container(head: bytes) -> str | None:
    """Returns FFmpeg's name of the format of a recording that begins with `head`, `HEAD_BYTES` of them, or None."""
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return "wav"
    if head[4:8] == b"ftyp":
        return "mov"
    if _starts_mpeg_frame(head):
        return "mp3"
    if _starts_aac_frame(head):
        return "aac"
    return _FIRST_BYTES.get(head[:4])


def count_tag_bytes(file: BinaryIO) -> int:
    """Returns the bytes of ID3 tags, and zeros, that a file begins with; raises AudioError for too many tags."""
    place = 0
    for _ in range(MAX_ID3_TAGS + 1):
        file.seek(place)
        size = count_id3_bytes(file.read(_ID3_HEADER_BYTES))
        if size == 0:
            return place
        place = _pass_zeros(file, place + size)
    raise AudioError(f"found more than {MAX_ID3_TAGS} ID3 tags, expected a recording behind them")


def count_id3_bytes(head: bytes) -> int:
    """Returns the bytes of an ID3 tag that begins with `head`, its header; 0 where none does."""
    if head[:3] != b"ID3" or len(head) < _ID3_HEADER_BYTES:
        return 0
    size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    return _ID3_HEADER_BYTES + size + (_ID3_HEADER_BYTES if head[5] & _ID3_HAS_FOOTER else 0)


def _pass_zeros(file: BinaryIO, place: int) -> int:
    """Returns where, from `place` on, the first byte stands that is not zero; the end of the file if none does."""
    file.seek(place)
    while block := file.read(_BLOCK_BYTES):
        rest = block.lstrip(b"\0")
        place += len(block) - len(rest)
        if rest:
            break
    return place


def _starts_mpeg_frame(head: bytes) -> bool:
    """Whether there are 11 bits of synchronisation, a version and a layer, none of them reserved."""
    first, second = (*head[:2], 0, 0)[:2]
    return first == 0xFF and second & 0xE0 == 0xE0 and second & 0x18 != 0x08 and second & 0x06 != 0


def _starts_aac_frame(head: bytes) -> bool:
    """Whether there are 12 bits of synchronisation, and the layer is 0 (ADTS)."""
    return len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0
