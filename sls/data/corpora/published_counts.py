"""The published number of trials of a corpus, and the note by which another corpus of that layout says so."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sls.data.corpora.track_schema import Entry, as_entry
from sls.data.tables.asv_scores import ROLE_SPELLINGS, AsvScores
from sls.data.tables.protocols import ALL_SUBSETS, Protocol
from sls.quotation import quote
from sls.yaml_file import read_yaml

CORPUS_NOTE = "CORPUS.yaml"
"""A file in a data root that holds something else than the published corpora, in their layout."""

Counts = Mapping[str, Mapping[str, int]]
"""By subset (or `all`), the number of `trials`, `bonafide` and `spoof`; under `asv`, of all ASV trials, that of
`trials`, `target`, `nontarget` and `spoof`. What is not said is not checked."""

ASV = "asv"
"""In `Counts`, the name that stands for all ASV scores."""

_COUNTED = ("trials", "bonafide", "spoof")
_COUNTED_ASV = ("trials", *ROLE_SPELLINGS)


@dataclass(frozen=True)
class CorpusNote:
    """What a data root says of itself."""

    corpus: str
    """Name of the corpus that lies there in the published layout, for instance `demo`."""
    counts: Mapping[str, Counts]
    """By track, the counts that stand in the place of the published ones."""


def find_corpus_note(path: Path) -> CorpusNote | None:
    """Reads the note of the nearest directory above a file that has one; None where there is none."""
    for folder in path.absolute().parents:
        note = read_corpus_note(folder)
        if note is not None:
            return note
    return None


def read_corpus_note(data_root: Path) -> CorpusNote | None:
    """Reads the note, `corpus: NAME` and perhaps `counts:`, of a data root; None where the published counts hold."""
    path = data_root / CORPUS_NOTE
    if not path.is_file():
        return None
    note = as_entry(read_yaml(path), str(path))
    note.check_names(("corpus", "counts"))
    counts = note.entry("counts") if note.values.get("counts") else None
    by_track = {} if counts is None else counts.entries()
    return CorpusNote(note.text("corpus"), {track: parse_counts(entry) for track, entry in by_track.items()})


def parse_counts(counts: Entry) -> Counts:
    """Returns `subset: {trials: N, bonafide: N, spoof: N}` or roles of a track; raises ValueError for others."""
    by_subset = counts.entries()
    for subset, entry in by_subset.items():
        entry.check_names(_COUNTED_ASV if subset == ASV else _COUNTED)
        for name, number in entry.values.items():
            if not isinstance(number, int) or number < 0:
                raise ValueError(f"{entry.where}.{name}: found {quote(number)}, expected a number of trials")
    return {subset: entry.values for subset, entry in by_subset.items()}


def check_counts(protocol: Protocol, expected: Counts) -> None:
    """Compares a protocol with the published counts.

    A subset that the file does not hold at all is passed over, since keys of one subset are published too;
    asking for that subset is an error of its own.

    Raises:
        ValueError: a number differs; the error says how a corpus of one's own is marked.
    """
    present = protocol.subsets()
    is_part = bool(present) and not set(expected) - {ALL_SUBSETS, ASV} <= set(present)
    for subset in present if is_part else (ALL_SUBSETS, *present):
        if subset in expected and subset != ASV:
            found = protocol.counts(subset)
            _compare(protocol.source, found, expected[subset], "trials", f" (subset {subset})")


def check_asv_counts(asv: AsvScores, expected: Counts) -> None:
    """Compares ASV scores of all subsets together with the published counts; raises ValueError where they differ."""
    _compare(asv.source, {"trials": len(asv), **asv.counts()}, expected.get(ASV, {}), "ASV trials")


def _compare(
    source: Path, found: Mapping[str, int], expected: Mapping[str, int], trials: str, where: str = ""
) -> None:
    for name, number in expected.items():
        if found.get(name, number) != number:
            what = trials if name == "trials" else f"{name} {trials}"
            raise ValueError(
                f"{source}: found {found[name]} {what}{where}, expected {number} as published; a data root with "
                f"another corpus of this layout says so in {CORPUS_NOTE} (corpus: NAME)"
            )
