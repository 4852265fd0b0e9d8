"""Tests of the codecs of `channels`, and of `audio.encoders`: beside another coder, aligned, at their bit rates."""

import io

import numpy as np
import pytest
import soundfile

from sls.data.audio.decoders import decode_by_av
from sls.data.audio.encoders import encode
from sls.data.audio.resampling import resample
from sls.data.conditions.channels import CODECS, code
from sls.data.conditions.settings import OneOf, Within

GOOD_KBPS = {
    "mu-law": 64,
    "a-law": 64,
    "gsm": 13,
    "amr-nb": 12.2,
    "g722": 64,
    "opus": 64,
    "mp3": 64,
    "aac": 64,
}


def snr_db(clean: np.ndarray, coded: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(clean**2) / np.sum((coded - clean) ** 2)))


def find_lag(clean: np.ndarray, coded: np.ndarray) -> int:
    """Returns by how many samples the second is late."""
    size = 2 * len(clean)
    correlation = np.fft.irfft(np.fft.rfft(coded, size) * np.fft.rfft(clean, size).conj())
    lag = int(np.argmax(correlation))
    return lag if lag < len(clean) else lag - size


def code_by_libsndfile(pcm: np.ndarray, subtype: str) -> np.ndarray:
    file = io.BytesIO()
    soundfile.write(file, pcm, 8_000, format="WAV", subtype=subtype)
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


@pytest.mark.parametrize(("codec", "subtype"), [("mu-law", "ULAW"), ("a-law", "ALAW")])
def test_g711_codes_every_value_as_libsndfile_does_or_next_to_it(codec: str, subtype: str) -> None:
    pcm = np.arange(-(2**15), 2**15).astype(np.int16)
    coded = decode_by_av(encode(pcm, CODECS[codec].encoder, "wav", 8_000))[0][:, 0]
    expected = code_by_libsndfile(pcm, subtype)
    levels = np.unique(expected)
    assert np.isin(coded, levels).all()
    steps = np.abs(np.searchsorted(levels, coded) - np.searchsorted(levels, expected))
    assert steps.max() == 1  # where a value is about as far from both: the two round such borders differently
    assert np.mean(steps == 1) < 0.015


@pytest.mark.parametrize(("codec", "subtype"), [("mu-law", "ULAW"), ("a-law", "ALAW")])
def test_g711_goes_by_8_khz(speech: np.ndarray, codec: str, subtype: str) -> None:
    narrow = resample(np.pad(speech, (0, 1_600)), 16_000, 8_000)
    by_other = code_by_libsndfile(np.round(narrow * 2**15).astype(np.int16), subtype)
    expected = resample(by_other, 8_000, 16_000)[: len(speech)]
    coded = code(speech, codec=codec, kbps=64)
    assert snr_db(expected, coded) > snr_db(speech, coded) + 10


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("num_samples", [32_000, 31_999, 7_777])
def test_coded_speech_is_aligned_as_long_and_whole_to_its_end(
    speech: np.ndarray, codec: str, num_samples: int
) -> None:
    clean = speech[:num_samples]
    coded = code(clean, codec=codec, kbps=GOOD_KBPS[codec])
    assert len(coded) == num_samples
    assert find_lag(clean, coded) == 0
    for stretch in (slice(None, 800), slice(-800, None)):
        assert np.corrcoef(clean[stretch], coded[stretch])[0, 1] > 0.5


@pytest.mark.parametrize(
    "codec", [name for name, codec in CODECS.items() if codec.kbps != OneOf((64,)) and name != "gsm"]
)
def test_more_bits_leave_less_error_and_every_rate_is_coded(speech: np.ndarray, codec: str) -> None:
    taken = CODECS[codec].kbps
    rates = [taken.least, 24, taken.most] if isinstance(taken, Within) else list(taken.values)
    errors = [snr_db(speech[:8_000], code(speech[:8_000], codec=codec, kbps=rate)) for rate in rates]
    assert errors[-1] > errors[0] + 3


@pytest.mark.parametrize("codec", ["opus", "mp3", "aac"])
@pytest.mark.parametrize("kbps", [16, 48])
def test_a_file_has_the_bit_rate_that_was_asked_for(speech: np.ndarray, codec: str, kbps: int) -> None:
    pcm = np.round(np.tile(speech, 4) * 2**15).astype(np.int16)
    content = encode(pcm, CODECS[codec].encoder, CODECS[codec].container, 16_000, 1_000 * kbps)
    assert len(content) * 8 / (len(pcm) / 16_000) / 1_000 == pytest.approx(kbps, rel=0.4)


def test_what_is_beyond_full_scale_is_clipped(speech: np.ndarray) -> None:
    loud = 8 * speech
    clipped = np.clip(loud, -1, 1)
    assert np.abs(code(loud, codec="g722", kbps=64)).max() < 1.5
    assert snr_db(clipped, code(loud, codec="g722", kbps=64)) > 10
