"""Tests of the speech of the demo corpus: `voice`, `attacks`, `recording` and `codecs`."""

import av
import numpy as np
import pytest

from sls.config import SAMPLE_RATE_HZ
from sls.data.demo_corpus import codecs
from sls.data.demo_corpus.attacks import spoof
from sls.data.demo_corpus.codecs import CODECS, apply_codec
from sls.data.demo_corpus.plan import ATTACKS, SEEN_ATTACKS
from sls.data.demo_corpus.recording import PEAK, record
from sls.data.demo_corpus.voice import HOP, Speech, istft, speak, stft

NUM_SAMPLES = 2 * SAMPLE_RATE_HZ + 7


def say(num_samples: int = NUM_SAMPLES, seed: int = 2) -> Speech:
    return speak(num_samples, np.random.default_rng(1), np.random.default_rng(seed))


@pytest.fixture(scope="module")
def speech() -> Speech:
    return say()


def median_pitch_hz(waveform: np.ndarray) -> float:
    """Estimates the pitch of the periodic frames by autocorrelation, apart from how the voice was made."""
    found = []
    for begin in range(0, len(waveform) - 1024, 512):
        frame = waveform[begin : begin + 1024] - waveform[begin : begin + 1024].mean()
        similarity = np.correlate(frame, frame, mode="full")[1023:]
        lags = slice(SAMPLE_RATE_HZ // 400, SAMPLE_RATE_HZ // 70)
        best = lags.start + int(similarity[lags].argmax())
        if similarity[best] > 0.5 * similarity[0]:
            found.append(SAMPLE_RATE_HZ / best)
    assert len(found) > 10
    return float(np.median(found))


def test_voice_has_the_pitch_that_it_reports(speech: Speech) -> None:
    reported = np.median(speech.f0_hz[speech.f0_hz > 0])
    assert median_pitch_hz(speech.waveform) == pytest.approx(reported, rel=0.08)


def test_voice_pauses_and_has_unvoiced_sounds(speech: Speech) -> None:
    assert 0.3 < np.mean(speech.f0_hz > 0) < 0.95


def test_speech_is_as_long_as_asked(speech: Speech) -> None:
    assert np.isfinite(speech.waveform).all()
    assert len(speech.waveform) == len(speech.f0_hz) == NUM_SAMPLES


def test_a_speaker_keeps_a_voice_from_text_to_text(speech: Speech) -> None:
    other = say(seed=3)
    assert not np.array_equal(other.waveform, speech.waveform)
    medians = [np.median(said.f0_hz[said.f0_hz > 0]) for said in (speech, other)]
    assert medians[1] == pytest.approx(medians[0], rel=0.15)


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_keeps_length_and_pitch(speech: Speech, attack: str) -> None:
    waveform = spoof(speech, attack, np.random.default_rng(3))
    assert waveform.shape == (NUM_SAMPLES,)
    assert np.isfinite(waveform).all()
    assert median_pitch_hz(waveform) == pytest.approx(np.median(speech.f0_hz[speech.f0_hz > 0]), rel=0.2)


@pytest.mark.parametrize("attack", SEEN_ATTACKS)
def test_attack_keeps_the_words_but_not_the_waveform(speech: Speech, attack: str) -> None:
    spoofed = spoof(speech, attack, np.random.default_rng(4))
    assert abs(np.corrcoef(speech.waveform, spoofed)[0, 1]) < 0.9
    if ATTACKS[attack][0] != "waveform_concatenation":  # which has a text of its own
        power = [(np.abs(stft(waveform)) ** 2).sum(axis=1) for waveform in (speech.waveform, spoofed)]
        assert np.corrcoef(*np.log(np.array(power) + 1e-6))[0, 1] > 0.8


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_keeps_level_and_long_term_spectrum(speech: Speech, attack: str) -> None:
    spoofed = spoof(speech, attack, np.random.default_rng(4))
    power = [(np.abs(stft(waveform)) ** 2).mean(axis=0) for waveform in (speech.waveform, spoofed)]
    bands_db = [10 * np.log10(spectrum[1:].reshape(8, -1).mean(axis=1)) for spectrum in power]
    assert np.abs(bands_db[1] - bands_db[0]).max() < 5


@pytest.mark.parametrize("attack", ["-", *ATTACKS])
def test_no_sample_is_what_lay_in_memory(attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of a length that ends far behind the middle of its last frame.
    num_samples = 50 * HOP + HOP - 1
    empty, empty_like = np.empty, np.empty_like
    monkeypatch.setattr(np, "empty", lambda *args, **options: _spoil(empty(*args, **options)))
    monkeypatch.setattr(np, "empty_like", lambda *args, **options: _spoil(empty_like(*args, **options)))
    said = say(num_samples)
    made = said.waveform if attack == "-" else spoof(said, attack, np.random.default_rng(3))
    assert np.isfinite(made).all()


def _spoil(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "f":
        array.fill(np.nan)
    return array


def test_inverse_of_short_time_spectra_is_the_waveform(speech: Speech) -> None:
    np.testing.assert_allclose(istft(stft(speech.waveform), NUM_SAMPLES), speech.waveform, atol=1e-12)


@pytest.mark.parametrize("is_wild", [False, True])
def test_recording_is_silent_before_speech_and_within_range(speech: Speech, is_wild: bool) -> None:
    recording = record(speech.waveform, np.random.default_rng(5), is_trimmed=False, is_wild=is_wild)
    assert NUM_SAMPLES + 0.1 * SAMPLE_RATE_HZ < len(recording) < NUM_SAMPLES + 0.5 * SAMPLE_RATE_HZ
    lead, rest = np.split(recording, [round(0.05 * SAMPLE_RATE_HZ)])
    assert 0 < lead.std() < 0.2 * rest.std()
    assert np.abs(recording).max() <= PEAK


def test_trimmed_recording_has_no_silence_around_it(speech: Speech) -> None:
    recording = record(speech.waveform, np.random.default_rng(5), is_trimmed=True, is_wild=False)
    assert len(recording) == NUM_SAMPLES


def test_conditions_of_a_recording_do_not_depend_on_what_is_said(speech: Speech) -> None:
    first, second = (
        record(dry, np.random.default_rng(6), is_trimmed=False, is_wild=False)
        for dry in (speech.waveform, speech.waveform[::-1])
    )
    assert len(first) == len(second)
    noise = slice(0, round(0.05 * SAMPLE_RATE_HZ))
    assert np.corrcoef(first[noise], second[noise])[0, 1] > 0.999


@pytest.mark.parametrize("name", CODECS)
def test_codec_keeps_length_and_words(speech: Speech, name: str) -> None:
    waveform = record(speech.waveform, np.random.default_rng(7), is_trimmed=False, is_wild=False)
    coded = apply_codec(waveform, name)
    assert coded.shape == waveform.shape
    size = 2 * len(waveform)
    similarity = np.fft.irfft(np.fft.rfft(coded, size) * np.fft.rfft(waveform, size).conj())
    assert similarity.max() > 0.5 * np.linalg.norm(coded) * np.linalg.norm(waveform)
    if name not in ("none", "nocodec"):
        assert not np.allclose(coded, waveform, atol=1e-4)


def test_missing_codec_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_without_codec(*_: object) -> None:
        raise av.error.EncoderNotFoundError(1, "no such encoder")

    monkeypatch.setitem(codecs.CODECS, "opus", (open_without_codec,))
    with pytest.raises(RuntimeError, match="codec opus"):
        apply_codec(np.zeros(16_000), "opus")
