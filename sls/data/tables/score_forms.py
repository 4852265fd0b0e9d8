"""The forms of score files: those of the challenges, and any other of which a user says which column is the score."""

import re
from collections.abc import Sequence
from pathlib import Path

from sls.data.tables.formats import (
    DELIMITERS,
    WHITESPACE,
    TableFormat,
    describe_misfit,
    match_format,
    read_first_line,
    split_line,
)
from sls.quotation import did_you_mean, quote

TABBED_FORM = TableFormat("ASVspoof 5, with tabs", ("trial", "score"), ("filename", "cm-score"), "\t")
"""It holds names with spaces, too."""
KEYED_FORM = TableFormat("ASVspoof 2019: trial attack key score", ("trial", "attack", "label", "score"))
PLAIN_FORMATS = (
    TABBED_FORM,
    TableFormat("ASVspoof 5", ("trial", "score"), header=("filename", "cm-score")),
    TableFormat("trial score", ("trial", "score")),
)
SCORE_FORMATS = (*PLAIN_FORMATS, KEYED_FORM)
"""The forms of score files: those of the challenges."""
REMEDY = "say which column is the score by score_column=NUMBER or NAME"
TRIAL_NAMES = (
    *("trial", "filename", "file", "file_name", "filepath", "path", "utterance", "utterance_id", "utt"),
    *("utt_id", "utt-id", "uttid", "name", "id", "audio", "wav"),
)
"""What a first line may call the trials; otherwise they are the first column."""

MARKS = ",;|"
"""What may stand between two fields of other tables, at the end of the first."""

LOG_WORD = "Output"
_CHECKED_BYTES = 1 << 16
_FRACTION = re.compile(r"-\d.*|[+-]?\d*\.\d.*|[+-]?\d[\d.]*e[+-]?\d+", re.IGNORECASE)


def find_form(path: Path, column: str = "", place: str = "") -> TableFormat:
    """Returns the form of a score file by its first line.

    A column is its number or name, empty for a form of the challenges. A message calls the file by its place, if
    given.

    Raises:
        ValueError: it is none, or holds two scores, or has no such column; the message says what to do.
    """
    where = place or str(path)
    line = read_first_line(path)
    if column:
        known, fields = match_format(path, PLAIN_FORMATS), split_line(line, WHITESPACE)
        is_plain = known is not None and bool(known.header or _is_number(fields[-1]))
        # Of several files that are compared, those with one score need no word of the user's.
        return known if known and is_plain and not _holds(fields, column) else _form_of(line, column, where)
    with path.open("rb") as file:
        beginning = file.read(_CHECKED_BYTES)
    if re.search(rf"^{LOG_WORD},\s".encode(), beginning, re.MULTILINE):
        raise ValueError(
            f"{where}: found the log of a challenge's baseline, expected a score file; keep its lines {LOG_WORD}, "
            "TRIAL, LABEL, SCORE alone and take their scores by score_column=4"
        )
    form, fields = match_format(path, SCORE_FORMATS), split_line(line, WHITESPACE)
    if form is None or (form is KEYED_FORM and any(field[-1] in MARKS for field in fields[:-1])):
        raise ValueError(f"{describe_misfit(path, SCORE_FORMATS[1:], place)}; {REMEDY}")
    if not (form.header or _is_number(fields[-1])):
        raise ValueError(
            f"{where}:1: found {quote(fields[-1])}, expected a finite number; if the line names columns, {REMEDY}"
        )
    if form is KEYED_FORM and _FRACTION.fullmatch(fields[1]):
        raise ValueError(describe_two_scores(where, fields))
    return form


def describe_two_scores(where: str, fields: Sequence[str]) -> str:
    """Says that four columns of numbers are not the form of ASVspoof 2019."""
    return (
        f"{where}:1: found {len(fields)} columns with more than one of numbers ({quote(' '.join(fields))}), expected "
        f"one score, as in TRIAL ATTACK KEY SCORE; {REMEDY}"
    )


def _form_of(line: str, column: str, where: str) -> TableFormat:
    """Returns the form of a file whose scores stand in a column that is named, or counted from 1."""
    rows = {
        mark: split_line(line, mark) for mark in DELIMITERS.values() if mark in line or mark == WHITESPACE
    }
    delimiter = next((mark for mark, row in rows.items() if _holds(row, column)), next(iter(rows)))
    fields = rows[delimiter]
    place = _find_place(fields, column)
    if place < 0:
        hint = did_you_mean(column, fields)
        found = ", ".join(map(quote, fields))
        raise ValueError(
            f"score_column: found {quote(column)}, expected a number from 1 to {len(fields)} or a name in the first "
            f"line of {where}: {found}{hint}"
        )
    has_header = not _is_number(fields[place])
    lowered = [text.lower() for text in fields]
    named = (lowered.index(word) for word in TRIAL_NAMES if has_header and word in lowered)
    trial = next((found for found in named if found != place), int(fields[0] == LOG_WORD))
    if trial == place:
        raise ValueError(f"score_column: found {column}, expected another column than the trials in {where}")
    form = f"score_column={column}"
    if has_header:
        return TableFormat(form, ("trial", "score"), (fields[trial], fields[place]), delimiter)
    columns = [f"column {number}" for number in range(1, len(fields) + 1)]
    columns[trial], columns[place] = "trial", "score"
    return TableFormat(form, tuple(columns), delimiter=delimiter)


def _find_place(fields: Sequence[str], column: str) -> int:
    """Returns the place of a column in a first line; -1 where it is not there. A number is a place before a name."""
    if column.isdecimal() and 1 <= int(column) <= len(fields):
        return int(column) - 1
    return fields.index(column) if column in fields and not _is_number(column) else -1


def _holds(fields: Sequence[str], column: str) -> bool:
    """Whether fields of a first line have a column of that name, or a number at that place."""
    place = _find_place(fields, column)
    return place >= 0 and (not column.isdecimal() or _is_number(fields[place]))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
