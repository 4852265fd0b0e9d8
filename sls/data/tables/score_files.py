"""The score file: read strictly, joined one to one with a key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sls.data.tables.columns import Texts
from sls.data.tables.formats import TableFormat
from sls.data.tables.protocols import ALL_SUBSETS, Label, Protocol
from sls.data.tables.text_table import read_table
from sls.quotation import quote, shorten

SCORE_DIGITS = 9
"""Significant decimal digits that give back the same float32."""
SCORE_FORMATS = (
    TableFormat("ASVspoof 5", ("trial", "score"), header=("filename", "cm-score")),
    TableFormat("trial score", ("trial", "score")),
    TableFormat("ASVspoof 2019: trial attack key score", ("trial", "_", "_", "score")),
)
"""The forms of score files: those of the challenges."""
_EXAMPLES = 3


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

    @property
    def is_complete(self) -> bool:
        """Whether each trial of the one is in the other."""
        return self.scored == self.keyed == self.joined


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
        """Whether each trial is bona fide. Shape: `(trials,)`, Boolean.

        Raises:
            ValueError: the key has no labels.
        """
        if self.key.labels is None:
            raise ValueError(f"{self.key.source}: found a list without labels, expected a key")
        return np.asarray(self.key.labels == Label.BONAFIDE)

    def select(self, mask: np.ndarray) -> JoinedScores:
        """Returns the trials of a Boolean mask, or of row numbers."""
        return JoinedScores(self.scores[mask], self.key.select(mask), self.coverage, self.table)

    def select_subset(self, subset: str) -> JoinedScores:
        """Returns the trials of one subset, or all of them for `all`.

        Raises:
            ValueError: no trial is in that subset.
        """
        return self.select(self.key.subset_mask(subset))


def format_score(score: float) -> str:
    """Returns a score with enough digits to be read back as the same float32."""
    return f"{score:.{SCORE_DIGITS}g}"


def read_scores(path: str | Path, origin: str = "") -> ScoreTable:
    """Reads a score file: `trial score` lines, or the forms of ASVspoof 2019 and 5.

    Args:
        path: The file.
        origin: Where a user finds it, if it is a passing copy.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: another number of columns, a score that is not a finite number, or a trial twice.
    """
    table = read_table(path, SCORE_FORMATS)
    return ScoreTable(table.names(), table.floats("score"), table.source, table.digest, origin)


def join_scores(table: ScoreTable, key: Protocol, allow_partial: bool = False) -> JoinedScores:
    """Joins scores with a key, one to one, in the order of the key.

    Join with the whole key and select its subset afterwards: a score file covers all trials of a track.

    Args:
        table: Scores of the trials, in any order.
        key: Every trial of the track.
        allow_partial: Keep the trials that are in both, and let `coverage` tell how many are not.

    Raises:
        ValueError: trials without a score or scores without a trial (with `allow_partial`: none in common).
    """
    rows = table.names.find(key.names)
    is_scored = rows >= 0
    subsets = (ALL_SUBSETS, *key.subsets()) if len(key.subsets()) > 1 else ()
    whole_subsets = tuple(name for name in subsets if is_scored[key.subset_mask(name)].all())
    coverage = Coverage(len(table), len(key), int(np.count_nonzero(is_scored)), whole_subsets)
    if not coverage.joined or not (coverage.is_complete or allow_partial):
        raise ValueError(_describe_mismatch(table, key, is_scored, coverage))
    if not coverage.is_complete:
        key, rows = key.select(is_scored), rows[is_scored]
    return JoinedScores(table.scores[rows], key, coverage, table)


def _describe_mismatch(table: ScoreTable, key: Protocol, is_scored: np.ndarray, coverage: Coverage) -> str:
    missing = key.names[~is_scored].tolist()
    extra = table.names[key.names.find(table.names) < 0].tolist()
    problems = []
    for trials, what in ((missing, "trials of the key have no score"), (extra, "scores are of no trial")):
        if trials:
            examples = ", ".join(map(shorten, trials[:_EXAMPLES])) + (
                ", ..." if len(trials) > _EXAMPLES else ""
            )
            problems.append(f"{len(trials)} {what} ({examples})")
    hint = ""
    if missing and {Path(name).stem for name in missing} == {Path(name).stem for name in extra}:
        hint = "; the names differ in their folders or endings alone"
    elif coverage.joined:
        hint = f"; allow_partial=true takes the {coverage.joined} in both"
    return (
        f"{table.place}: {' and '.join(problems)}; expected one score for each of the {coverage.keyed} trials "
        f"of {key.source}{hint}"
    )


def check_names(path: str | Path, names: Sequence[str]) -> None:
    """Refuses names that a score file cannot hold.

    Raises:
        ValueError: no name, one twice, or one with white space.
    """
    if not names:
        raise ValueError(f"{path}: found no score to write, expected one at least")
    if len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"{path}: found trial {quote(twice)} twice, expected each trial once")
    unfit = next((name for name in names if len(name.split()) != 1), None)
    if unfit is not None:
        raise ValueError(f"{path}: found trial name {quote(unfit)}, expected a name without white space")
