"""Tests of `extents`, `headers` and `frames`: recordings cut short or damaged, in all containers written here."""

import io
import struct
import zlib

import av
import numpy as np
import pytest
import soundfile

from sls.data.audio.recording import AudioError, inspect_audio, read_audio, read_recording
from tests.data.audio.test_recording import RATE_HZ, Pipe, encode_by_av

NUM_TRIES = 20


def make_speech(rate_hz: int = RATE_HZ) -> np.ndarray:
    rng, times = np.random.default_rng(3), np.arange(2 * rate_hz) / rate_hz
    glide = np.sin(2 * np.pi * (200 + 300 * np.sin(3 * times)) * times) * np.abs(np.sin(5 * times))
    return (0.4 * glide + 0.05 * rng.normal(0, 1, len(times))).clip(-0.9, 0.9).astype(np.float32)


def by_soundfile(container: str, subtype: str | None = None) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, make_speech(), RATE_HZ, format=container, subtype=subtype)
    return content.getvalue()


def by_av(tmp_path, ending: str, codec: str, **options: str) -> bytes:
    rate_hz = 48_000 if codec == "libopus" else RATE_HZ
    path = tmp_path / f"written.{ending}"
    encode_by_av(path, make_speech(rate_hz), rate_hz, codec, options)
    return path.read_bytes()


def make_sphere() -> bytes:
    samples = (make_speech() * 32_767).astype("<i2").tobytes()
    lines = ("NIST_1A", "   1024", f"sample_count -i {len(samples) // 2}", "sample_n_bytes -i 2")
    lines += ("channel_count -i 1", "sample_byte_format -s2 01", f"sample_rate -i {RATE_HZ}", "end_head")
    return "\n".join((*lines, "")).encode().ljust(1024) + samples


# Checksums of what they hold: an altered byte is seen.
CHECKED = {
    "flac": lambda _: by_soundfile("FLAC"),
    "flac 24": lambda _: by_soundfile("FLAC", "PCM_24"),
    "flac by FFmpeg": lambda path: by_av(path, "flac", "flac"),
    "ogg vorbis": lambda _: by_soundfile("OGG", "VORBIS"),
    "ogg opus": lambda _: by_soundfile("OGG", "OPUS"),
    "opus by FFmpeg": lambda path: by_av(path, "opus", "libopus"),
    "ogg flac": lambda path: by_av(path, "ogg", "flac"),
    "mp3": lambda _: by_soundfile("MP3"),
    "mp3 by FFmpeg": lambda path: by_av(path, "mp3", "libmp3lame"),
    "mka flac": lambda path: by_av(path, "mka", "flac"),
    "mka aac": lambda path: by_av(path, "mka", "aac"),
    "mka opus": lambda path: by_av(path, "mka", "libopus"),
    "mka pcm": lambda path: by_av(path, "mka", "pcm_s16le"),
    "m4a flac": lambda path: by_av(path, "mp4", "flac"),
}
# Sizes alone: samples or packets that are altered within them are taken for what was recorded.
SIZED = {
    **{
        f"{container} {subtype}": lambda _, container=container, subtype=subtype: by_soundfile(
            container, subtype
        )
        for container, subtype in [
            *(
                ("WAV", name)
                for name in ("PCM_U8", "PCM_16", "FLOAT", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610")
            ),
            ("WAVEX", "PCM_24"),
            ("RF64", "PCM_16"),
            ("W64", "PCM_16"),
            ("W64", "IMA_ADPCM"),
            ("AIFF", "PCM_16"),
            ("AIFF", "IMA_ADPCM"),
            ("AU", "PCM_16"),
            ("AU", "ULAW"),
            ("CAF", "PCM_16"),
            ("CAF", "ALAC_16"),
            ("NIST", "PCM_16"),
        ]
    },
    "sph": lambda _: make_sphere(),
    "wav by FFmpeg": lambda path: by_av(path, "wav", "adpcm_ima_wav"),
    "wav with mp3": lambda path: by_av(path, "wav", "libmp3lame"),
    "m4a": lambda path: by_av(path, "m4a", "aac"),
    "m4a, index first": lambda path: by_av(path, "mp4", "aac", movflags="faststart"),
    "m4a alac": lambda path: by_av(path, "m4a", "alac"),
    "webm": lambda path: by_av(path, "webm", "libopus"),
    "wma": lambda path: by_av(path, "wma", "wmav2"),
    "asf mp3": lambda path: by_av(path, "asf", "libmp3lame"),
}
# Not even the size of the whole: cut between two of their parts, they are whole and shorter.
UNTOLD = {
    "mp3 without Xing's header": lambda path: by_av(path, "mp3", "libmp3lame", write_xing="0"),
    "aac": lambda path: by_av(path, "aac", "aac"),
    "m4a in fragments": lambda path: by_av(path, "mp4", "aac", movflags="frag_keyframe+empty_moov"),
    "webm from a browser": lambda path: by_av(path, "webm", "libopus", live="1"),
}


# Written without going back to a header that does not know its end: by a pipe, or killed.
UNFINISHED = {
    **{
        f"{container} {codec}": lambda _, container=container, codec=codec: by_pipe(container, codec)
        for container, codec in [
            ("wav", "pcm_s16le"),
            ("w64", "pcm_s16le"),
            ("aiff", "pcm_s16be"),
            ("au", "pcm_s16be"),
            ("caf", "pcm_s16le"),
            ("caf", "pcm_s16be"),
            ("caf", "pcm_mulaw"),
            ("wav", "mp3"),
            ("asf", "wmav2"),
            ("asf", "libmp3lame"),
        ]
    },
    **{
        f"{container} {subtype}, killed": lambda path, container=container, subtype=subtype: before_it_closed(
            path, container, subtype
        )
        for container, subtype in [
            *((name, "PCM_16") for name in ("WAV", "RF64", "W64", "AIFF", "AU", "CAF", "NIST")),
            ("WAV", "PCM_24"),
            ("CAF", "ULAW"),
            ("AU", "FLOAT"),
        ]
    },
}
# What other programs put behind a recording, and what is nothing.
TAGS = {
    "id3": b"TAG".ljust(128, b"x"),
    "ape": b"".join(
        b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, flags) + bytes(8)
        for flags in (0xA0000000, 0x80000000)
    ),
    "zeros": bytes(3000),
}
OTHERS = {"noise": np.random.default_rng(4).bytes(700), "text": b"hello world\n" * 20, "a line end": b"\n"}
# No end is told, so that what follows is taken for a part that is damaged.
NO_OTHERS = ("mp3 without Xing's header", "aac", "webm from a browser")


def by_pipe(container: str, codec: str) -> bytes:
    pipe = Pipe()
    encode_by_av(pipe, make_speech(), RATE_HZ, codec, container=container)
    return pipe.content


def before_it_closed(tmp_path, container: str, subtype: str) -> bytes:
    path = tmp_path / "open"
    with soundfile.SoundFile(path, "w", RATE_HZ, 1, subtype, None, container) as file:
        file.write(make_speech())
        return path.read_bytes()


def count_unseen(contents: list[bytes], whole: np.ndarray) -> int:
    """How many are read as something else than the whole."""
    unseen = 0
    for content in contents:
        try:
            found = read_audio(content)
        except AudioError:
            continue
        unseen += not np.array_equal(found, whole)
    return unseen


def cut(content: bytes, rng: np.random.Generator) -> list[bytes]:
    return [content[:place] for place in rng.integers(1, len(content), NUM_TRIES)]


def remove_spans(content: bytes, rng: np.random.Generator) -> list[bytes]:
    first, longest = 1100, min(4000, len(content) // 4)  # behind all headers
    places, sizes = (
        rng.integers(first, len(content) - longest, NUM_TRIES),
        rng.integers(1, longest, NUM_TRIES),
    )
    return [content[:at] + content[at + size :] for at, size in zip(places, sizes, strict=True)]


def alter(content: bytes, rng: np.random.Generator) -> list[bytes]:
    altered = [bytearray(content) for _ in range(NUM_TRIES)]
    for one in altered:
        one[rng.integers(len(one))] ^= int(rng.integers(1, 256))
    return [bytes(one) for one in altered]


@pytest.mark.parametrize("kind", [*CHECKED, *SIZED])
def test_a_recording_that_lacks_something_is_refused_or_read_as_the_whole(tmp_path, kind):
    content, rng = {**CHECKED, **SIZED}[kind](tmp_path), np.random.default_rng(5)
    whole = read_audio(content)
    assert abs(len(whole) - 2 * RATE_HZ) <= 2048  # what their codecs pad
    assert count_unseen(cut(content, rng), whole) == 0
    assert count_unseen(remove_spans(content, rng), whole) == 0


@pytest.mark.parametrize("kind", CHECKED)
def test_an_altered_recording_is_refused_or_read_as_the_whole(tmp_path, kind):
    content = CHECKED[kind](tmp_path)
    assert count_unseen(alter(content, np.random.default_rng(6)), read_audio(content)) == 0


@pytest.mark.parametrize("kind", [*SIZED, *UNTOLD])
def test_what_is_altered_within_its_length_is_read_or_refused(tmp_path, kind):
    content = {**SIZED, **UNTOLD}[kind](tmp_path)
    count_unseen(alter(content, np.random.default_rng(6)), read_audio(content))


@pytest.mark.parametrize("kind", UNTOLD)
def test_a_container_that_tells_no_length_is_refused_where_a_part_of_it_is_cut(tmp_path, kind):
    content, rng = UNTOLD[kind](tmp_path), np.random.default_rng(5)
    whole = read_audio(content)
    assert count_unseen(cut(content, rng), whole) <= 1
    assert count_unseen(remove_spans(content, rng), whole) <= 1


@pytest.mark.parametrize("kind", UNFINISHED)
def test_samples_behind_a_header_that_does_not_know_its_end_are_read_with_a_warning(tmp_path, kind):
    content = UNFINISHED[kind](tmp_path)
    path = tmp_path / "a.recording"
    path.write_bytes(content)
    assert "unfinished" in inspect_audio(path).warnings.split(", ")
    recording = read_recording(path)
    assert recording.decoded.is_unfinished
    closed = tmp_path / "closed"
    container, codec = kind.removesuffix(", killed").split()
    if kind.endswith("killed"):
        soundfile.write(closed, make_speech(), RATE_HZ, format=container, subtype=codec)
    else:
        encode_by_av(closed, make_speech(), RATE_HZ, codec, container=container)
    np.testing.assert_array_equal(recording.waveform, read_audio(closed))
    assert "unfinished" not in inspect_audio(closed).warnings.split(", ")
    if codec not in (
        "PCM_U8",
        "ULAW",
        "pcm_mulaw",
        "mp3",
    ):  # whose samples have one byte, or any number of bits
        path.write_bytes(content[:-1])
        for is_decoded in (False, True):
            with pytest.raises(AudioError, match=r"a\.recording"):
                inspect_audio(path, is_decoded=is_decoded)


@pytest.mark.parametrize("name", ["AVR", "SVX", "VOC", "MAT5", "HTK", "MPC2K"])
def test_a_format_whose_length_nothing_is_held_to_is_refused_by_its_name(tmp_path, name):
    path = tmp_path / "a.recording"
    path.write_bytes(by_soundfile(name, "PCM_16"))
    for is_decoded in (False, True):
        with pytest.raises(AudioError, match=f"{name}.*convert"):
            inspect_audio(path, is_decoded=is_decoded)


def test_clusters_in_one_another_are_not_followed():
    content = b""
    for _ in range(5_000):  # each with the checksum of all that it holds
        content = b"\xbf\x84" + struct.pack("<I", zlib.crc32(content)) + content
        content = b"\x1f\x43\xb6\x75\x01" + struct.pack(">Q", len(content))[1:] + content
    head = b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + struct.pack(">Q", len(content))[1:]
    with pytest.raises(AudioError, match="no element of Matroska at byte 35"):
        read_audio(head + content)


def test_the_byte_that_makes_a_chunk_even_is_no_part_of_a_sample():
    pipe = Pipe()
    encode_by_av(pipe, make_speech()[:-1], RATE_HZ, "pcm_s24be", container="aiff")
    assert pipe.content[-1:] == b"\0"
    recording = read_recording(pipe.content)
    assert len(recording.decoded.samples) == len(make_speech()) - 1
    with pytest.raises(AudioError, match="within a sample"):
        read_recording(pipe.content[:-2])


@pytest.mark.parametrize("kind", [*CHECKED, *SIZED, *UNTOLD])
def test_what_is_put_behind_a_recording_is_not_read(tmp_path, kind):
    content = {**CHECKED, **SIZED, **UNTOLD}[kind](tmp_path)
    whole = read_audio(content)
    for behind in (TAGS if kind in NO_OTHERS else {**TAGS, **OTHERS}).values():
        np.testing.assert_array_equal(read_audio(content + behind), whole)


@pytest.mark.parametrize(
    "kind", [*CHECKED, "m4a", "m4a, index first", "m4a alac", "webm", "wma", "asf mp3", "m4a in fragments"]
)
@pytest.mark.parametrize("behind", [*TAGS, *OTHERS])
def test_what_is_put_behind_a_recording_does_not_hide_that_it_is_cut(tmp_path, kind, behind):
    content, rng = {**CHECKED, **SIZED, **UNTOLD}[kind](tmp_path), np.random.default_rng(7)
    near = [content[:-size] for size in (1, 2, 5, 17, 60, 100, 300)]
    contents = [one + {**TAGS, **OTHERS}[behind] for one in [*cut(content, rng), *near]]
    assert count_unseen(contents, read_audio(content)) == 0


@pytest.mark.parametrize("kind", ["WAV FLOAT", "flac", "ogg vorbis", "m4a", "AU PCM_16"])
def test_a_header_says_no_more_than_decoding(tmp_path, kind):
    path = tmp_path / "a.recording"
    content = {**CHECKED, **SIZED}[kind](tmp_path)
    path.write_bytes(content[: 3 * len(content) // 4])
    for is_decoded in (False, True) if kind != "flac" else (True,):  # whose length only decoding tells
        with pytest.raises(AudioError, match=r"a\.recording"):
            inspect_audio(path, is_decoded=is_decoded)


@pytest.mark.parametrize("container", ["WAV", "RF64"])
@pytest.mark.parametrize("said", [0, 2**32 - 1, 2**31 - 1, "the file", "the form"])
def test_samples_behind_a_header_that_was_never_finished_are_all_read(tmp_path, container, said):
    content = bytearray(by_soundfile(container))
    whole = read_audio(bytes(content))
    at = content.find(b"data") + 4
    size = {"the file": len(content), "the form": len(content) - at}.get(said, said)
    if container == "RF64":
        form = {"the form": len(content) - 8}.get(said, 0)
        struct.pack_into("<QQ", content, 20, form, size)
    else:
        form = {"the form": len(content) - 8}.get(said, min(size, 36))
        struct.pack_into("<I", content, 4, form)
        struct.pack_into("<I", content, at, size)
    np.testing.assert_array_equal(read_audio(bytes(content)), whole)
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    for is_decoded in (False, True):
        assert inspect_audio(path, is_decoded=is_decoded).duration_s == 2
    path.write_bytes(content[:-1])
    for is_decoded in (False, True):
        with pytest.raises(AudioError, match=r"a\.wav"):
            inspect_audio(path, is_decoded=is_decoded)


def test_a_wav_file_may_end_with_what_is_not_of_its_form():
    content = by_soundfile("WAV")
    whole = read_audio(content)
    for behind in (b"\0" * 7, b"TAG".ljust(128, b"x"), b"LIST\x04\0\0\0abcd"):
        np.testing.assert_array_equal(read_audio(content + behind), whole)


def test_mp3_may_have_tags_at_both_ends_and_zeros_behind_it():
    content = by_soundfile("MP3")
    whole = read_audio(content)
    tag = b"ID3\x04\0\0\0\0\x01\x02" + bytes(130)
    for other in (tag + content, content + b"TAG".ljust(128, b"x"), content + bytes(300)):
        np.testing.assert_array_equal(read_audio(other), whole)


@pytest.mark.parametrize(
    "kind", ["mp3", "ogg vorbis", "mka opus", "WAV PCM_16", "AIFF PCM_16", "m4a", "wma", "sph"]
)
def test_a_recording_may_be_cut_anywhere_near_its_end_and_its_beginning(tmp_path, kind):
    content = {**CHECKED, **SIZED}[kind](tmp_path)
    whole = read_audio(content)
    short = [content[:size] for size in range(64)] + [content[:-size] for size in range(1, 64)]
    assert count_unseen(short, whole) == 0


def test_mp3_that_was_copied_into_other_containers_is_whole(tmp_path):
    content = by_soundfile("MP3")
    for ending in ("mp3", "mka", "mp4"):
        path = tmp_path / f"copy.{ending}"
        with av.open(io.BytesIO(content)) as source, av.open(str(path), "w") as copy:
            stream = copy.add_stream_from_template(source.streams.audio[0])
            for packet in source.demux(source.streams.audio[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    copy.mux(packet)
        assert len(read_audio(path)) > 2 * RATE_HZ - 2048


def test_every_kind_of_frame_is_followed(tmp_path):
    """The sizes of frames of all rates, versions and layers that can be written, by the sizes of FFmpeg's packets."""
    for rate_hz in (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000):
        path = tmp_path / f"{rate_hz}.mp3"
        encode_by_av(path, make_speech(rate_hz), rate_hz, "libmp3lame", {"write_xing": "0"})
        assert len(read_audio(path)) > RATE_HZ
    for rate_hz in (16_000, 22_050, 24_000, 32_000, 44_100, 48_000):
        path = tmp_path / f"{rate_hz}.mp2"
        encode_by_av(path, make_speech(rate_hz), rate_hz, "mp2")
        assert len(read_audio(path)) > RATE_HZ
