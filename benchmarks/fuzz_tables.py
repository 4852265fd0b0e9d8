"""Readers of tables and settings that are fuzzed, and what each reader is to the fuzzer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sls.config import PROJECT_ROOT
from sls.config_file import build_config, read_config_values
from sls.data.conditions.conditions import read_conditions
from sls.data.corpora.tracks import load_formats, load_tracks
from sls.data.tables.asv_scores import read_asv_scores
from sls.data.tables.protocols import Label, read_protocol
from sls.data.tables.score_files import read_scores

_BLANKS = b" \t\v\f\x1c\x1d\x1e\x1f"


class Contradiction(Exception):
    """What was read is not what stands in the file."""


@dataclass(frozen=True)
class Reader:
    """A reader that is fuzzed."""

    name: str
    file_name: str
    """Which a refusal names."""
    seeds: tuple[bytes, ...]
    """What it takes as it stands."""
    read: Callable[[Path], object]
    kinds: tuple[type[Exception], ...] = (ValueError,)
    names_file: bool = True
    wrap: Callable[[bytes], bytes] = bytes
    """Makes the file of a seed, or of a damaged one."""


def _lines(path: Path) -> list[list[bytes]]:
    """Reads a table as plainly as can be: fields that white space separates, of lines that hold some."""
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    rows = (re.split(rb"[ \t\v\f\x1c-\x1f]+", line.strip(_BLANKS)) for line in content.splitlines())
    return [fields for fields in rows if fields != [b""]]


def _compare(found: list[Any], expected: list[Any]) -> None:
    if found != expected:
        pairs = zip(found, expected, strict=False)
        first = next((pair for pair in pairs if pair[0] != pair[1]), (len(found), len(expected)))
        raise Contradiction(f"found {first[0]!r}, expected {first[1]!r}")


def _make_key(_: Path) -> Reader:
    formats = load_tracks()["ASVspoof2019-LA"].key_search or load_tracks()["ASVspoof2019-LA"].protocol_search
    assert formats is not None
    key = "".join(
        f"LA_{n:04} LA_E_{n} - {'-' if n % 3 else 'A07'} {'bonafide' if n % 3 else 'spoof'}\n"
        for n in range(40)
    )

    def read(path: Path) -> None:
        protocol = read_protocol(path, formats.formats)
        rows = _lines(path)
        _compare(list(protocol.names), [row[1].decode() for row in rows])
        assert protocol.labels is not None
        _compare([Label(label).name.lower() for label in protocol.labels], [row[4].decode() for row in rows])

    return Reader("key", "key.txt", (key.encode(), key.replace("\n", "\r\n").encode()), read)


def _make_scores(_: Path) -> Reader:
    scores = "".join(f"LA_E_{n} {-n / 7:.17g}\n" for n in range(40))

    def read(path: Path) -> None:
        table = read_scores(path)
        rows = _lines(path)
        if rows and len(rows[0]) == 2:
            _compare(list(table.names), [row[0].decode() for row in rows])
            _compare(table.scores.tolist(), [float(row[1]) for row in rows])

    four = "".join(f"LA_E_{n} A07 spoof {n / 3:.9g}\n" for n in range(40))
    return Reader("scores", "scores.txt", (scores.encode(), four.encode()), read)


def _make_asv_scores(_: Path) -> Reader:
    roles = ("target", "nontarget", "spoof")
    scores = "".join(f"{'A07' if n % 3 == 2 else 'bonafide'} {roles[n % 3]} {n / 7:.9g}\n" for n in range(40))
    return Reader("asv-scores", "asv.txt", (scores.encode(),), read_asv_scores)


def _make_trial_lists(_: Path) -> Reader:
    seeds = (
        "".join(f"t{n}.wav\n" for n in range(40)),
        "file,label\n" + "".join(f"t{n}.wav,spoof\n" for n in range(40)),
        'file|label\n"a b"|bonafide\nc|spoof\n',
        "".join(f"- t{n}.wav - - - spoof\n" for n in range(20)),
    )
    # As `read_any_protocol` does, which reads the formats anew each time.
    formats = [
        item for item in load_formats().values() if "trial" in item.columns and "score" not in item.columns
    ]
    formats.sort(key=lambda item: (not item.header, -len(item.columns)))

    def read(path: Path) -> None:
        read_protocol(path, formats, needs_labels=False)

    return Reader("trial-lists", "list.txt", tuple(map(str.encode, seeds)), read)


def _make_tracks(_: Path) -> Reader:
    whole = (PROJECT_ROOT / "configs" / "tracks.yaml").read_bytes()
    own = b"""tracks:
  Mine:
    title: &t Mine
    corpus: *t
    metrics: [eer, cllr]
    folders: [mine, .]
    counts: {eval: {trials: 5, bonafide: 2, spoof: 3}}
    key: {files: [key.csv], formats: [csv]}
    audio: {folders: [wav], extensions: [.wav]}
"""
    return Reader("tracks", "tracks.yaml", (own, own, own, whole), load_tracks)


def _make_config(_: Path) -> Reader:
    seeds = tuple((PROJECT_ROOT / "configs" / f"{name}.yaml").read_bytes() for name in ("v1", "v2", "demo"))

    def read(path: Path) -> None:
        values = read_config_values(path)
        try:
            build_config(values)
        except ValueError as error:  # a wrong value is told by its field: it may as well have been typed
            if not any(str(name) in str(error) for name in values):
                raise

    return Reader("config", "config.yaml", seeds, read)


def _make_conditions(_: Path) -> Reader:
    own = b"""quiet: {kind: gain, gain_db: -6}
lost: &lost {kind: packet-loss, share: 0.1, burst: 2}
lost-again: {<<: *lost, packet_ms: 60}
mp3-24:
  kind: codec
  codec: mp3
  kbps: 24
"""
    return Reader("conditions", "my.yaml", (own,), lambda path: read_conditions(path, ["quiet"]))


TABLE_READERS: Mapping[str, Callable[[Path], Reader]] = {
    "key": _make_key,
    "scores": _make_scores,
    "asv-scores": _make_asv_scores,
    "trial-lists": _make_trial_lists,
    "tracks": _make_tracks,
    "config": _make_config,
    "conditions": _make_conditions,
}
