"""The score file: read strictly, joined one to one with a key."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from sls.data.tables.columns import Categories, Texts
from sls.data.tables.protocols import ALL_SUBSETS, Label, Protocol
from sls.data.tables.score_forms import MARKS, REMEDY, TABBED_FORM, find_form
from sls.data.tables.score_labels import check_labels, take_labels
from sls.data.tables.text_table import read_table
from sls.files import check_is_file
from sls.quotation import count_of, quote, shorten

SCORE_DIGITS = 9
"""Significant decimal digits that give back the same float32."""
_EXAMPLES = 3
_CONTROLS = re.compile(r"[\x00-\x1f]")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoreTable:
    """The scores of a system."""

    names: Texts
    """Names of the trials. Shape: `(trials,)`."""
    scores: np.ndarray
    """Their scores; higher is more bona fide. Shape: `(trials,)`, float64."""
    source: Path
    digest: str
    """SHA-256 of the file, hexadecimal."""
    origin: str = ""
    """Where a user finds the scores, if `source` is a passing copy of them."""
    labels: Mapping[str, Categories] = field(default_factory=dict)
    """Columns that say of each trial whether it is bona fide, by name. Shape of each: `(trials,)`."""
    column: str = ""
    """By which column the user named the scores of a file in another form than the challenges'."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def place(self) -> str:
        """What a message calls the scores."""
        return self.origin or str(self.source)


@dataclass(frozen=True)
class Coverage:
    """How well scores and key cover each other, in trials."""

    scored: int
    """Trials in the score file."""
    keyed: int
    """Trials in the key."""
    joined: int
    """Trials in both."""
    whole_subsets: tuple[str, ...] = ()
    """Subsets of the key, `all` first, each of whose trials is scored; empty where the key is not divided."""

    is_subset_whole: bool = False
    """Whether each trial of the evaluated subset is scored."""

    @property
    def is_complete(self) -> bool:
        """Whether each score is of a trial, and each trial that is evaluated has one."""
        return self.scored == self.joined and (self.joined == self.keyed or self.is_subset_whole)


@dataclass(frozen=True)
class JoinedScores:
    """Scores with what the key says of each."""

    scores: np.ndarray
    """Score of each trial of `key`. Shape: `(trials,)`, float64."""
    key: Protocol
    coverage: Coverage
    table: ScoreTable
    """The scores as they were read."""

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def is_bonafide(self) -> np.ndarray:
        """Whether each trial, `(trials,)`, is bona fide; raises ValueError where the key has no labels."""
        if self.key.labels is None:
            raise ValueError(f"{self.key.source}: found a list without labels, expected a key")
        return np.asarray(self.key.labels == Label.BONAFIDE)

    def select(self, mask: np.ndarray) -> JoinedScores:
        """Returns the trials of a Boolean mask, or of row numbers."""
        return JoinedScores(self.scores[mask], self.key.select(mask), self.coverage, self.table)

    def select_subset(self, subset: str) -> JoinedScores:
        """Returns the trials of one subset, as `Protocol.select_subset` does."""
        return self.select(self.key.subset_mask(subset))


def format_score(score: float) -> str:
    """Returns a score with enough digits to be read back as the same float32."""
    return f"{score:.{SCORE_DIGITS}g}"


def read_scores(path: str | Path, origin: str = "", column: str = "") -> ScoreTable:
    """Reads a score file: `trial score` lines, or the forms of ASVspoof 2019 and 5, or any other table.

    Args:
        path: The file.
        origin: Where a user finds it, if it is a passing copy.
        column: Which column of any other table is the score, by its number, from 1, or its name in the first line.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: another number of columns, two of scores, a score that is not a finite number, or a trial twice.
    """
    path = Path(path)
    check_is_file(path)
    table = read_table(path, find_form(path, column, origin), origin)
    labels = take_labels(table)
    return ScoreTable(table.names(), table.floats("score"), path, table.digest, origin, labels, column)


def join_scores(
    table: ScoreTable, key: Protocol, allow_partial: bool = False, subset: str = ALL_SUBSETS
) -> JoinedScores:
    """Joins scores with a key, one to one, in the order of the key.

    Join with the whole key and select its subset afterwards: a score file covers all trials of a track, or at least
    those that are evaluated.

    Args:
        table: Scores of the trials, in any order.
        key: Every trial of the track.
        subset: The trials of the key that must have scores.
        allow_partial: Keep the trials that are in both, and let `coverage` tell how many are not.

    Raises:
        ValueError: trials without a score or scores without a trial (with `allow_partial`: none in common).
    """
    rows = table.names.find(key.names)
    if table.column and (rows < 0).all():
        rows = _find_without_endings(table, key)
    is_scored = rows >= 0
    subsets = (ALL_SUBSETS, *key.subsets()) if len(key.subsets()) > 1 else ()
    whole_subsets = tuple(name for name in subsets if is_scored[key.subset_mask(name)].all())
    is_needed = key.subset_mask(subset)
    is_subset_whole = bool(is_scored[is_needed].all())
    coverage = Coverage(
        len(table), len(key), int(np.count_nonzero(is_scored)), whole_subsets, is_subset_whole
    )
    if not coverage.joined or not (coverage.is_complete or allow_partial):
        raise ValueError(_describe_mismatch(table, key, is_needed, is_scored, subset))
    if not is_scored.all():
        key, rows = key.select(is_scored), rows[is_scored]
    for name, column in table.labels.items():
        check_labels(table.place, name, column.select(rows), key, bool(table.column))
    return JoinedScores(table.scores[rows], key, coverage, table)


def _find_without_endings(table: ScoreTable, key: Protocol) -> np.ndarray:
    """Returns the row of each trial of a key, -1 where there is none, by the names without what follows a point."""
    ours, theirs = (
        Texts.encode(name.removesuffix(PurePosixPath(name).suffix) for name in names)
        for names in (key.names, table.names)
    )
    if not (ours.are_distinct() and theirs.are_distinct()):
        return np.full(len(key), -1)
    rows = theirs.find(ours)
    if (rows >= 0).any():
        logger.warning("%s: its trials are found by their names without endings", table.place)
    return rows


def _describe_mismatch(
    table: ScoreTable, key: Protocol, is_needed: np.ndarray, is_scored: np.ndarray, subset: str
) -> str:
    missing = key.names[is_needed & ~is_scored].tolist()
    extra = table.names[key.names.find(table.names) < 0].tolist()
    problems = []
    for trials, one, several in (
        (missing, "trial of the key has no score", "trials of the key have no score"),
        (extra, "score is of no trial", "scores are of no trial"),
    ):
        if trials:
            examples = ", ".join(map(shorten, trials[:_EXAMPLES])) + (
                ", ..." if len(trials) > _EXAMPLES else ""
            )
            problems.append(f"{count_of(len(trials), one, several)} ({examples})")
    hint = ""
    if missing and {Path(name).stem for name in missing} == {Path(name).stem for name in extra}:
        hint = "; the names differ in their folders or endings alone"
        if not table.column:
            hint += ": where the score is named, as by score_column=2, names without endings decide"
    elif extra and all(name[-1] in MARKS for name in extra):
        hint = f"; {REMEDY}"
    elif is_scored.any():
        hint = f"; allow_partial=true takes the {np.count_nonzero(is_scored)} in both"
    of_subset = "" if subset == ALL_SUBSETS else f", subset {subset}"
    return (
        f"{table.place}: {' and '.join(problems)}; expected one score for each of the "
        f"{count_of(int(np.count_nonzero(is_needed)), 'trial')} of {key.source}{of_subset}{hint}"
    )


def check_names(path: str | Path, names: Sequence[str]) -> None:
    """Raises ValueError for names that a score file cannot hold: none, one twice, or one with control characters."""
    if not names:
        raise ValueError(f"{path}: found no score to write, expected one at least")
    if len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"{path}: found trial {quote(twice)} twice, expected each trial once")
    unfit = next((name for name in names if name.strip() != name or not name or _CONTROLS.search(name)), None)
    if unfit is not None:
        raise ValueError(
            f"{path}: found trial name {quote(unfit)}, expected one without control characters, and without white "
            "space at its ends"
        )


def lay_out(lines: Sequence[str]) -> Iterable[str]:
    """Returns `trial score` lines as those of a score file: with tabs and a header where a name has spaces."""
    if not any(line.count(" ") > 1 for line in lines):
        return lines
    text = io.StringIO()
    writer = csv.writer(text, delimiter=TABBED_FORM.delimiter, lineterminator="\n")
    writer.writerow(TABBED_FORM.header)
    writer.writerows(line.rstrip("\n").rpartition(" ")[::2] for line in lines if line)
    return [text.getvalue()]
