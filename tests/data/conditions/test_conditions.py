"""Tests of `conditions` and `settings`: what holds of every kind, and how a file of conditions is read."""

import inspect
import json
import logging
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from sls.config import PROJECT_ROOT
from sls.data.audio.containers import AudioError
from sls.data.conditions.channels import CODECS
from sls.data.conditions.conditions import (
    BUILT_IN_CONDITIONS,
    KINDS,
    Condition,
    read_conditions,
    trial_generator,
)
from sls.data.conditions.settings import settings_of

EXAMPLES: dict[str, list[dict[str, float | str]]] = {
    "band": [{"rate_hz": 8_000.0, "low_hz": 300.0, "high_hz": 3_400.0}],
    "codec": [
        {"codec": name, "kbps": {"opus": 12.0, "aac": 32.0, "mp3": 24.0, "amr-nb": 12.2}.get(name, 64.0)}
        for name in CODECS
        if name != "gsm"
    ]
    + [{"codec": "gsm", "kbps": 13.0}],
    "packet-loss": [
        {"share": 0.3, "packet_ms": 20.0, "burst": 0.0},
        {"share": 0.3, "packet_ms": 10.0, "burst": 3.0},
    ],
    "gain": [{"gain_db": 40.0}],
    "clipping": [{"share": 0.1}],
    "white-noise": [{"snr_db": 10.0}],
    "pink-noise": [{"snr_db": 10.0}],
    "recorded-noise": [{"folder": "", "snr_db": 10.0}],
    "reverberation": [{"rt60_s": 0.3, "direct_db": 0.0}],
    "recorded-reverberation": [{"folder": ""}],
    "silence-trimmed": [{"threshold_db": 40.0}],
    "silence-alone": [{"threshold_db": 40.0}],
    "silence-added": [{"leading_s": 0.1, "trailing_s": 0.2}],
    "offset": [{"offset_s": 0.5}],
    "speed": [{"factor": 0.9}, {"factor": 2.0}],
}
KEEPS_LENGTH = set(KINDS) - {"silence-trimmed", "silence-alone", "silence-added", "speed"}
SHAPES = ("speech", "short", "one sample", "zeros", "loud")


def every_condition() -> list[Condition]:
    return [Condition(kind, kind, settings) for kind in KINDS for settings in EXAMPLES[kind]]


@pytest.fixture(params=every_condition(), ids=lambda condition: condition.description)
def condition(request: pytest.FixtureRequest, recordings: Path) -> Condition:
    given = request.param
    if "folder" not in given.settings:
        return given
    return Condition(given.name, given.kind, {**given.settings, "folder": str(recordings)})


@pytest.mark.parametrize("shape", SHAPES)
def test_every_kind_is_a_pure_function_of_what_it_is_given(
    condition: Condition, shape: str, speech: np.ndarray
) -> None:
    waveform = {
        "speech": speech,
        "short": speech[:1_600],
        "one sample": speech[1_000:1_001],
        "zeros": np.zeros(1_601, np.float32),
        "loud": 1_000 * speech[:8_000],
    }[shape].copy()
    waveform.setflags(write=False)
    before = waveform.copy()
    degraded = condition.apply(waveform, trial_generator(1, "name", "trial"))
    assert degraded.dtype == np.float32
    assert degraded.ndim == 1
    assert len(degraded) >= 1
    assert np.isfinite(degraded).all()
    if condition.kind in KEEPS_LENGTH:
        assert len(degraded) == len(waveform)
    assert not np.shares_memory(degraded, waveform)
    degraded[:] = 0
    assert np.array_equal(waveform, before)
    again = condition.apply(waveform, trial_generator(1, "name", "trial"))
    assert np.array_equal(again, condition.apply(waveform, trial_generator(1, "name", "trial")))


def test_every_kind_changes_speech_and_what_is_drawn_differs_by_trial(
    condition: Condition, speech: np.ndarray
) -> None:
    one, other = (condition.apply(speech, trial_generator(1, "name", trial)) for trial in ("one", "other"))
    is_drawn = "generator" in inspect.signature(KINDS[condition.kind]).parameters
    assert np.array_equal(one, other) != is_drawn
    if condition.kind != "silence-trimmed":  # there is none
        assert not np.array_equal(one, speech)


def test_a_condition_reaches_worker_processes(condition: Condition, speech: np.ndarray) -> None:
    sent = pickle.loads(pickle.dumps(condition))
    drawn = [each.apply(speech[:1_600], trial_generator(1, "a", "b")) for each in (condition, sent)]
    assert np.array_equal(*drawn)
    assert sent.fingerprint == condition.fingerprint


def test_the_generator_of_a_trial_depends_on_seed_condition_and_trial() -> None:
    given = [
        (1, "gsm", "LA_1"),
        (2, "gsm", "LA_1"),
        (1, "mp3", "LA_1"),
        (1, "gsm", "LA_2"),
        (1, "gsmLA_1", ""),
    ]
    drawn = [trial_generator(*each).integers(2**62) for each in given]
    assert len(set(drawn)) == len(given)
    assert drawn == [trial_generator(*each).integers(2**62) for each in given]


def test_the_built_in_list_is_read_and_holds_the_control_of_silence() -> None:
    conditions = read_conditions(None)
    names = [condition.name for condition in conditions]
    assert {"silence-trimmed", "silence-alone"} < set(names)
    assert len({condition.fingerprint for condition in conditions}) == len(names)
    assert all(condition.description.isprintable() for condition in conditions)


def test_names_pick_conditions_in_their_order() -> None:
    assert [each.name for each in read_conditions(None, ["gsm", "clipped", "gsm"])] == ["gsm", "clipped"]
    with pytest.raises(ValueError, match="gms.*did you mean gsm"):
        read_conditions(None, ["gms"])


def test_a_file_adds_to_the_built_in_list_and_replaces_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("gsm: {kind: gain, gain_db: -6}\nmine: {kind: speed, factor: 1.2}\n")
    built_in = [each.name for each in read_conditions(None)]
    with caplog.at_level(logging.WARNING):
        conditions = {each.name: each for each in read_conditions(path)}
    assert list(conditions) == [*built_in, "mine"]
    assert conditions["gsm"].kind == "gain"
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]
    assert "gsm" in caplog.text


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("mine: {kind: nosie, snr_db: 3}", ["mine.kind", "nosie"]),
        ("mine: {snr_db: 3}", ["mine.kind", "None"]),
        ("mine: [white-noise]", ["mine", "white-noise"]),
        ("mine: {kind: white-noise}", ["mine: ", "no snr_db"]),
        ("mine: {kind: white-noise, snr: 3}", ["mine", "snr", "snr_db"]),
        ("mine: {kind: white-noise, snr_db: loud}", ["mine.snr_db", "loud"]),
        ("mine: {kind: white-noise, snr_db: true}", ["mine.snr_db", "True"]),
        ("mine: {kind: white-noise, snr_db: .nan}", ["mine.snr_db", "nan"]),
        ("mine: {kind: clipping, share: 1.5}", ["mine.share", "1.5", "0 to 1"]),
        ("mine: {kind: codec, codec: amr-wb, kbps: 12.65}", ["mine.codec", "amr-wb", "amr-nb"]),
        ("mine: {kind: codec, codec: [mp3], kbps: 16}", ["mine.codec", "mp3"]),
        ("mine: {kind: codec, codec: mp3, kbps: 17}", ["mine", "kbps of mp3", "17"]),
        ("mine: {kind: band, low_hz: 3000, high_hz: 300}", ["mine", "3000", "300"]),
        ("mine: {kind: packet-loss, share: 0.9, burst: 2}", ["mine", "0.9", "0.666667"]),
        ("mine: {kind: recorded-noise, folder: '', snr_db: 3}", ["mine.folder", "''"]),
        ("clean: {kind: speed, factor: 0.9}", ["clean"]),
        ("a name/: {kind: speed, factor: 0.9}", ["a name/"]),
    ],
)
def test_what_is_wrong_in_a_file_is_told_in_a_line_with_its_place(
    tmp_path: Path, line: str, named: list[str]
) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(line)
    with pytest.raises(ValueError) as raised:  # noqa: PT011  the words are looked at below
        read_conditions(path)
    message = str(raised.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert all(word in message for word in named), message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "none.yaml"))):
        read_conditions(tmp_path / "none.yaml")


def test_a_codec_that_this_build_lacks_is_told_before_anything_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CODECS, "opus", CODECS["mp3"].__class__("no-encoder", "ogg", CODECS["opus"].kbps))
    with pytest.raises(ValueError, match=r"conditions\.yaml\.opus-12: .*no-encoder"):
        read_conditions(None, ["opus-12"])
    assert read_conditions(None, ["mp3-16"])


@pytest.mark.parametrize(
    "content", [None, b"", b"RIFF and no more"], ids=["no folder", "empty", "no recording"]
)
@pytest.mark.parametrize("kind", ["recorded-noise", "recorded-reverberation"])
def test_a_folder_without_recordings_or_with_one_that_is_unreadable_is_named(
    tmp_path: Path, kind: str, content: bytes | None
) -> None:
    folder = tmp_path / "folder"
    if content is not None:
        folder.mkdir()
    if content:
        (folder / "bad.wav").write_bytes(content)
    path = tmp_path / "my.yaml"
    path.write_text(
        f"mine: {{kind: {kind}, folder: {folder}"
        + ", snr_db: 3}" * ("noise" in kind)
        + "}" * ("noise" not in kind)
    )
    with pytest.raises(ValueError, match=re.escape(f"{path}.mine: ")) as raised:
        read_conditions(path, ["mine"])
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["a.wav", "z.wav"])
def test_of_several_recordings_the_unreadable_one_is_named_whichever_is_drawn(
    recordings: Path, tmp_path: Path, name: str
) -> None:
    folder, path = tmp_path / "folder", tmp_path / "my.yaml"
    shutil.copytree(recordings, folder)
    (folder / name).write_bytes(b"RIFF and no more")
    path.write_text(f"mine: {{kind: recorded-reverberation, folder: {folder}}}")
    with pytest.raises(ValueError, match=re.escape(str(folder / name))):
        read_conditions(path, ["mine"])


def test_what_is_too_loud_for_numbers_is_an_error_and_never_infinite(speech: np.ndarray) -> None:
    condition = Condition("noisy", "white-noise", {"snr_db": -20.0})
    with pytest.raises(AudioError, match="noisy"):
        condition.apply(speech * np.float32(3e38), trial_generator(1, "noisy", "trial"))


def test_a_fingerprint_tells_kind_settings_and_the_content_of_a_folder(
    recordings: Path, tmp_path: Path
) -> None:
    def fingerprint(folder: Path, snr_db: float = 3.0) -> str:
        return Condition("any", "recorded-noise", {"folder": str(folder), "snr_db": snr_db}).fingerprint

    copied, changed = tmp_path / "copied", tmp_path / "changed"
    shutil.copytree(recordings, copied)
    shutil.copytree(recordings, changed)
    (changed / "short.wav").write_bytes((recordings / "long.wav").read_bytes())
    assert fingerprint(recordings) == fingerprint(copied) != fingerprint(changed)
    assert fingerprint(recordings, 4.0) != fingerprint(recordings)
    assert str(recordings) not in fingerprint(recordings)
    assert json.loads(fingerprint(recordings))["kind"] == "recorded-noise"


def test_the_guide_names_every_kind_and_setting() -> None:
    guide = (PROJECT_ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
    for kind, degradation in KINDS.items():
        (row,) = re.findall(rf"^\| `{kind}` \|.*$", guide, re.M)
        assert set(re.findall(r"`(\w+)`", row.split("|")[2])) == set(settings_of(degradation)), kind
    assert all(f"`{codec}`" in guide for codec in CODECS)
    assert BUILT_IN_CONDITIONS.name in guide
