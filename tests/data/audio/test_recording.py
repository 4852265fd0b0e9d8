"""Tests of `recording`, `resampling`, `decoders` and `containers`, by reading whole files."""

import io
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import soxr
import torch
import torchaudio

from sls.data.audio import decoders
from sls.data.audio.recording import AudioError, inspect_audio, read_audio, read_recording
from sls.data.audio.resampling import resample_kaiser_best

RATE_HZ = 16_000


def make_tone(duration_s: float = 0.5, rate_hz: int = RATE_HZ, frequency_hz: float = 440) -> np.ndarray:
    times = np.arange(round(duration_s * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * frequency_hz * times)).astype(np.float32)


class Pipe:
    """What is written to and cannot go back."""

    def __init__(self) -> None:
        self.content = b""

    def write(self, content: bytes) -> int:
        self.content += bytes(content)
        return len(content)


def encode_by_av(
    path: Path | Pipe,
    waveform: np.ndarray,
    rate_hz: int,
    codec: str,
    options: dict[str, str] | None = None,
    container: str | None = None,
) -> None:
    file = path if isinstance(path, Pipe) else str(path)
    with av.open(file, "w", format=container, options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate_hz)
        if codec.startswith("wma"):
            stream.bit_rate = 64_000
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(waveform[np.newaxis], format="fltp", layout="mono")
        frame.sample_rate = rate_hz
        frame.time_base = Fraction(1, rate_hz)
        frame.pts = 0
        resampler = av.AudioResampler(stream.format, "mono", rate_hz, frame_size=stream.frame_size or 1024)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def spoil_length(content: bytes) -> bytes:
    """Zeroes the number of samples in a FLAC header, as encoders of streams leave it."""
    spoiled = bytearray(content)
    spoiled[21] &= 0xF0
    spoiled[22:26] = bytes(4)
    return bytes(spoiled)


def flac_of(waveform: np.ndarray, subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, RATE_HZ, format="FLAC", subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_usual_files_are_read_at_their_own_rate(tmp_path, name):
    waveform = make_tone()
    soundfile.write(tmp_path / name, waveform, RATE_HZ)
    read = read_audio(tmp_path / name)
    assert read.dtype == np.float32
    assert read.shape == waveform.shape
    tolerance = 1e-4 if name in ("a.wav", "a.flac") else 0.1
    assert np.abs(read - waveform)[1000:-1000].max() < tolerance


def test_a_file_that_soundfile_cannot_read_is_read_by_pyav(tmp_path):
    waveform = make_tone(1.0)
    encode_by_av(tmp_path / "a.m4a", waveform, RATE_HZ, "aac")
    with pytest.raises(soundfile.SoundFileError):
        soundfile.read(tmp_path / "a.m4a")
    read = read_audio(tmp_path / "a.m4a")
    assert abs(len(read) - len(waveform)) <= 2 * 1024  # AAC codes whole frames
    spectrum = np.abs(np.fft.rfft(read[2000:10_000] * np.hanning(8000)))
    assert np.argmax(spectrum) * RATE_HZ / 8000 == pytest.approx(440, abs=2)
    assert np.abs(read[2000:10_000]).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("name", "codec", "rate_hz"),
    [("a.aac", "aac", 16_000), ("a.webm", "libopus", 48_000)],
)
def test_unusual_formats_are_read_by_pyav_at_the_rate_asked_for(tmp_path, name, codec, rate_hz):
    encode_by_av(tmp_path / name, make_tone(1.0, rate_hz), rate_hz, codec)
    read = read_audio(tmp_path / name)
    spectrum = np.abs(np.fft.rfft(read[2000:10_000] * np.hanning(8000)))
    assert np.argmax(spectrum) * RATE_HZ / 8000 == pytest.approx(440, abs=2)


def test_a_flac_file_without_its_length_is_read_bit_by_bit():
    content = flac_of(make_tone())
    np.testing.assert_array_equal(read_audio(spoil_length(content)), read_audio(content))
    with pytest.raises(ValueError, match="too big"):  # what soundfile alone does
        soundfile.read(io.BytesIO(spoil_length(content)))


@pytest.mark.parametrize(
    ("name", "subtype"),
    [("a.wav", "PCM_U8"), ("a.wav", "PCM_16"), ("a.wav", "PCM_24"), ("a.wav", "FLOAT"), ("a.flac", "PCM_24")],
)
@pytest.mark.parametrize("num_channels", [1, 2])
def test_both_decoders_give_the_same_samples(tmp_path, monkeypatch, name, subtype, num_channels):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / name, rng.uniform(-1, 1, (5000, num_channels)), RATE_HZ, subtype=subtype)
    by_soundfile = read_audio(tmp_path / name)

    def refuse(*_: object) -> None:
        raise soundfile.SoundFileError("psf_fseek")

    monkeypatch.setattr(decoders, "decode_by_soundfile", refuse)
    np.testing.assert_allclose(read_audio(tmp_path / name), by_soundfile, atol=1e-7, rtol=0)


def test_real_flac_is_the_same_by_both_decoders(reference_dir, monkeypatch):
    paths = sorted((reference_dir / "asvspoof2019" / "flac").glob("*.flac"))
    assert len(paths) == 3
    by_soundfile = [read_audio(path) for path in paths]

    def refuse(*_: object) -> None:
        raise soundfile.SoundFileError("psf_fseek")

    monkeypatch.setattr(decoders, "decode_by_soundfile", refuse)
    for path, expected in zip(paths, by_soundfile, strict=True):
        np.testing.assert_array_equal(read_audio(path), expected)


def test_channels_are_averaged(tmp_path):
    left, right = make_tone(), make_tone(frequency_hz=1000)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), RATE_HZ, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 24_000, 44_100, 48_000])
def test_other_rates_are_resampled(tmp_path, rate_hz):
    soundfile.write(tmp_path / "a.wav", make_tone(1.0, rate_hz), rate_hz, subtype="FLOAT")
    read = read_audio(tmp_path / "a.wav")
    assert abs(len(read) - RATE_HZ) <= 1
    inner = slice(500, 15_500)
    np.testing.assert_allclose(read[inner], make_tone(1.0)[inner], atol=2e-4)


def test_what_lies_above_half_the_new_rate_does_not_fold_down(tmp_path):
    soundfile.write(tmp_path / "a.wav", make_tone(1.0, 48_000, 12_000), 48_000, subtype="FLOAT")
    assert np.abs(read_audio(tmp_path / "a.wav"))[500:15_500].max() < 1e-4


def test_soxr_is_the_default_to_the_bit(tmp_path):
    tone = make_tone(1.0, 44_100)
    soundfile.write(tmp_path / "a.wav", tone, 44_100, subtype="FLOAT")
    expected = soxr.resample(tone, 44_100, RATE_HZ, quality="HQ")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), expected)
    assert len(read_recording(tmp_path / "a.wav", resampler="kaiser_best").waveform) == len(expected)
    assert (read_recording(tmp_path / "a.wav", resampler="kaiser_best").waveform != expected).any()


# Lengths as librosa 0.9.1 gives them.
@pytest.mark.parametrize(
    ("rate_hz", "num_samples", "expected"),
    [
        (8_000, 2_667, 5_334),
        (11_025, 22_051, 32_002),
        (22_050, 66_157, 48_006),
        (24_000, 72_007, 48_005),
        (24_000, 72_000, 48_000),
        (44_100, 132_307, 48_003),
        (48_000, 16_000, 5_334),
        # Where torchaudio, which counts in float32, gives one less.
        (11_025, 220_551, 320_075),
        (48_000, 2, 0),
    ],
)
def test_kaiser_best_rounds_lengths_up_with_a_zero(rate_hz, num_samples, expected):
    resampled = resample_kaiser_best(np.ones(num_samples, dtype=np.float32), rate_hz, RATE_HZ)
    assert len(resampled) == expected
    is_whole = num_samples * RATE_HZ % rate_hz == 0
    assert expected == 0 or (resampled[-1] != 0) == is_whole
    assert (resampled[:-1] != 0).all()


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 24_000, 44_100, 48_000])
def test_kaiser_best_keeps_what_lies_below_its_cut_off_and_nothing_above(rate_hz):
    inner = slice(500, 15_500)
    frequency_hz = 0.4375 * min(rate_hz, RATE_HZ)
    kept = resample_kaiser_best(make_tone(1.0, rate_hz, frequency_hz), rate_hz, RATE_HZ)
    np.testing.assert_allclose(kept[inner], make_tone(1.0, RATE_HZ, frequency_hz)[inner], atol=1e-5)
    if rate_hz > RATE_HZ:
        gone = resample_kaiser_best(make_tone(1.0, rate_hz, 8_200), rate_hz, RATE_HZ)
        assert np.abs(gone[inner]).max() < 1e-5


@pytest.mark.parametrize("rate_hz", [11_025, 24_000, 44_100])
def test_kaiser_best_is_that_of_torchaudio_but_for_the_width_of_its_window(rate_hz):
    noise = np.random.default_rng(1).normal(0, 0.1, rate_hz)
    expected = torchaudio.functional.resample(
        torch.from_numpy(noise),
        rate_hz,
        RATE_HZ,
        lowpass_filter_width=64,
        rolloff=0.9475937167399596,
        resampling_method="sinc_interp_kaiser",
        beta=14.769656459379492,
    )
    np.testing.assert_allclose(resample_kaiser_best(noise, rate_hz, RATE_HZ), expected, atol=2e-3)


@pytest.mark.parametrize("rate_hz", [15_999, 44_101, 47_999])
def test_kaiser_best_takes_rates_that_no_recorder_has(tmp_path, rate_hz):
    frequency_hz, inner = 5_000, slice(500, 7_500)
    tone = make_tone(0.5, rate_hz, frequency_hz)
    kept = resample_kaiser_best(tone, rate_hz, RATE_HZ)
    np.testing.assert_allclose(kept[inner], make_tone(0.5, RATE_HZ, frequency_hz)[inner], atol=1e-5)


@pytest.mark.parametrize("rate_hz", [48_001, 767_999])
def test_kaiser_best_refuses_a_rate_that_would_take_a_filter_without_end(tmp_path, rate_hz):
    path = tmp_path / "a.wav"
    soundfile.write(path, make_tone(0.1, rate_hz), rate_hz)
    with pytest.raises(AudioError, match=rf"a\.wav: found a rate of {rate_hz} Hz.*resampler=soxr"):
        read_recording(path, resampler="kaiser_best")
    assert len(read_audio(path)) == pytest.approx(1600, abs=1)


def test_content_is_read_as_its_file_is(tmp_path):
    path = tmp_path / "a.flac"
    path.write_bytes(flac_of(make_tone()))
    expected = read_audio(path)
    np.testing.assert_array_equal(read_audio(path.read_bytes()), expected)
    np.testing.assert_array_equal(read_audio(str(path)), expected)


def test_a_file_that_is_no_recording_is_named_with_both_decoders_words(tmp_path):
    path = tmp_path / "a.flac"
    path.write_bytes(b"this is not audio" * 100)
    with pytest.raises(AudioError, match="not readable") as caught:
        read_audio(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: not readable: ")
    assert re.search(r"soundfile: .*PyAV: found .*b'this is not ', expected WAV, FLAC, MP3", message)
    assert "\n" not in message


@pytest.mark.parametrize("ending", ["flac", "wav", "m3u8", "sdp", "ffconcat"])
@pytest.mark.parametrize(
    "content",
    ["ffconcat version 1.0\nfile other.wav\n", "#EXTM3U\n#EXTINF:1,\nother.wav\n", "8 bytes!", "ID3"],
)
def test_a_text_is_no_recording_whatever_it_names_or_is_called(tmp_path, content, ending):
    soundfile.write(tmp_path / "other.wav", make_tone(), RATE_HZ)
    path = tmp_path / f"a.{ending}"
    path.write_text(content)
    for read in (read_audio, inspect_audio):
        with pytest.raises(AudioError, match="not readable"):
            read(path)


@pytest.mark.parametrize("name", ["a.flac", "a.wav", "a.ogg", "a.mp3"])
def test_pyav_alone_knows_a_format_by_its_content_and_not_by_its_name(tmp_path, monkeypatch, name):
    soundfile.write(tmp_path / name, make_tone(), RATE_HZ)
    expected = read_audio(tmp_path / name)
    content = (tmp_path / name).read_bytes()

    def refuse(*_):
        raise soundfile.SoundFileError("refused")

    monkeypatch.setattr(decoders, "decode_by_soundfile", refuse)
    tag = b"ID3\x04\0\0\0\0\x01\x02" + bytes(130)
    for misnamed in (content, tag + content) if name in ("a.flac", "a.mp3") else (content,):
        path = tmp_path / "misnamed.bin"
        path.write_bytes(misnamed)
        assert len(read_audio(path)) == pytest.approx(len(expected), abs=2500)
        np.testing.assert_array_equal(read_audio(path), read_audio(misnamed))


def test_an_upload_is_called_by_the_name_that_it_is_given():
    with pytest.raises(AudioError, match=r"^upload 7: .*soundfile: "):
        read_recording(b"no audio", name="upload 7")


@pytest.mark.parametrize("content", [b"", flac_of(np.zeros(0, dtype=np.float32))])
def test_a_recording_without_samples_is_an_error(tmp_path, content):
    path = tmp_path / "a.flac"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"a\.flac"):
        read_audio(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_an_error(tmp_path, bad):
    waveform = make_tone()
    waveform[7] = bad
    soundfile.write(tmp_path / "a.wav", waveform, RATE_HZ, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav: found 1 of 8000 .*NaN"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["a.flac", "a.wav"])
def test_a_recording_cut_short_is_an_error(tmp_path, name):
    path = tmp_path / name
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 80_000), RATE_HZ)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(AudioError, match=name):
        read_audio(path)


@pytest.mark.parametrize(("ending", "codec"), [("mp4", "aac"), ("mp4", "flac"), ("mka", "pcm_s16le")])
@pytest.mark.parametrize(("layout", "num_channels"), [("5.1", 6), ("7.1", 8)])
def test_all_channels_are_averaged(tmp_path, ending, codec, layout, num_channels):
    """From eight planes on, PyAV finds more than there are."""
    path, waveform = tmp_path / f"a.{ending}", make_tone(1.0)
    samples = np.repeat(waveform, num_channels)[np.newaxis]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE_HZ)
        stream.layout = layout
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = RATE_HZ, Fraction(1, RATE_HZ), 0
        resampler = av.AudioResampler(stream.format, layout, RATE_HZ, frame_size=stream.frame_size or 1024)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
    recording = read_recording(path)
    assert recording.decoded.samples.shape[1] == num_channels
    spectrum = np.abs(np.fft.rfft(recording.waveform[2000:10_000] * np.hanning(8000)))
    assert np.argmax(spectrum) * RATE_HZ / 8000 == pytest.approx(440, abs=2)


def test_a_wav_file_from_a_pipe_does_not_know_its_length(tmp_path):
    soundfile.write(tmp_path / "a.wav", make_tone(), RATE_HZ)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[4:8] = content[40:44] = b"\xff" * 4
    np.testing.assert_array_equal(read_audio(bytes(content)), read_audio(tmp_path / "a.wav"))


def test_a_missing_recording_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.flac: "):
        read_audio(tmp_path / "none.flac")


@pytest.mark.parametrize("is_decoded", [False, True])
def test_rate_and_duration_are_told(tmp_path, is_decoded):
    soundfile.write(tmp_path / "a.wav", make_tone(0.25, 8_000), 8_000)
    encode_by_av(tmp_path / "a.m4a", make_tone(1.0), RATE_HZ, "aac")
    facts = inspect_audio(tmp_path / "a.wav", is_decoded=is_decoded)
    assert (facts.sample_rate_hz, facts.duration_s) == (8_000, 0.25)
    facts = inspect_audio(tmp_path / "a.m4a", is_decoded=is_decoded)
    assert facts.sample_rate_hz == RATE_HZ
    assert facts.duration_s == pytest.approx(1.0, abs=0.13)


def test_decoding_finds_what_a_header_hides(tmp_path):
    path = tmp_path / "a.flac"
    content = flac_of(np.random.default_rng(0).uniform(-0.5, 0.5, 16_000))
    path.write_bytes(content[: len(content) // 2])
    assert inspect_audio(path).duration_s == 1.0
    with pytest.raises(AudioError, match="not readable"):
        inspect_audio(path, is_decoded=True)
    path.write_bytes(spoil_length(content))
    assert inspect_audio(path).duration_s is None
    assert inspect_audio(path, is_decoded=True).duration_s == 1.0


@pytest.mark.parametrize("is_decoded", [False, True])
def test_a_file_without_samples_is_no_recording(tmp_path, is_decoded):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE_HZ)
    with pytest.raises(AudioError, match=r"a\.wav: found no samples"):
        inspect_audio(tmp_path / "a.wav", is_decoded=is_decoded)


def test_header_without_a_sampling_rate_is_no_recording(tmp_path):
    """FFmpeg opens a file by its name's ending, whatever it holds."""
    path = tmp_path / "text.flac"
    path.write_bytes(b"no audio")
    with pytest.raises(AudioError, match="text.flac"):
        inspect_audio(path)


def test_a_recording_too_short_for_one_sample_at_16_khz_is_refused(tmp_path):
    path = tmp_path / "click.wav"
    soundfile.write(path, np.array([0.5]), 48_000)
    with pytest.raises(AudioError, match=r"click\.wav: found no samples .*resampling"):
        read_audio(path)


@pytest.mark.parametrize("num_frames", [1, 50, 173])
def test_amr_is_read_and_refused_where_it_ends_within_a_frame(tmp_path, num_frames) -> None:
    frames = (b"\x3c" + bytes(range(31))) * num_frames  # of 20 ms at 12.2 kbit/s
    path = tmp_path / "a.amr"
    path.write_bytes(b"#!AMR\n" + frames)
    assert inspect_audio(path, is_decoded=True).duration_s == pytest.approx(0.02 * num_frames)
    for cut in (1, 13, 30):
        path.write_bytes(b"#!AMR\n" + frames[:-cut])
        with pytest.raises(AudioError, match=r"a\.amr"):
            inspect_audio(path, is_decoded=True)


@pytest.mark.parametrize("rate_hz", [1, 999, 768_001, 2**31 - 1])
def test_a_rate_that_no_recording_has_is_refused(tmp_path, rate_hz: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(1600), 16_000, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[24:32] = np.array([rate_hz, min(2 * rate_hz, 2**32 - 1)], "<u4").tobytes()
    path.write_bytes(content)
    with pytest.raises(AudioError, match="a.wav"):
        read_audio(path)


@pytest.mark.parametrize("kind", ["OGG", "MP3"])
def test_a_recording_behind_another_is_refused_and_tags_are_not(tmp_path, kind: str) -> None:
    path = tmp_path / "a.audio"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 32_000), 16_000, format=kind)
    content = path.read_bytes()
    expected = read_audio(content)
    with pytest.raises(AudioError, match="behind"):
        read_audio(content + content)
    if kind == "MP3":
        tag, lyrics = b"TAG" + bytes(125), b"LYRICSBEGIN" + b"x" * 20
        tails = [tag, lyrics + b"%06d" % len(lyrics) + b"LYRICS200", b"TAG+" + bytes(223) + tag]
        for tail in (*tails, tails[1] + tag, tag + tag):
            np.testing.assert_array_equal(read_audio(content + tail), expected)


def test_samples_too_large_to_be_resampled_are_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).choice([-3.4e38, 3.4e38], 4_000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", noise, 8_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav: found samples too large"):
        read_audio(tmp_path / "a.wav")
