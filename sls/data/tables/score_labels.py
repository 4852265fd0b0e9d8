"""Labels that stand in a score file beside the scores, held against the key."""

import logging
from collections.abc import Mapping

import numpy as np

from sls.data.tables.columns import Categories, Texts
from sls.data.tables.protocols import UNKNOWN_LABEL, Label, Protocol
from sls.data.tables.score_forms import KEYED_FORM, REMEDY, describe_two_scores
from sls.data.tables.text_table import Table
from sls.quotation import quote

LABEL_WORDS: Mapping[str, int] = {
    **dict.fromkeys(("bonafide", "bona-fide", "bona_fide", "genuine", "real", "human"), Label.BONAFIDE),
    **dict.fromkeys(("spoof", "spoofed", "fake", "deepfake", "synthetic"), Label.SPOOF),
}
"""What a column of labels in a score file may say, beside the spellings of the key."""
LABEL_NAMES = ("label", "labels", "key", "class", "target", "truth", "ground_truth")
"""What a first line may call a column of true labels."""
NUMBERED_LABELS = frozenset("01")
_NONE = -1

logger = logging.getLogger(__name__)


def take_labels(table: Table) -> dict[str, Categories]:
    """Returns the columns of a score file that look like labels, by name.

    Raises:
        ValueError: where the labels of ASVspoof 2019 should stand, there are scores.
    """
    if table.form is not KEYED_FORM:
        others = {name: table.categories(name) for name in table.places if name not in ("trial", "score")}
        known = {*LABEL_WORDS, *NUMBERED_LABELS, UNKNOWN_LABEL}
        return {name: held for name, held in others.items() if {*map(str.lower, held.occurring())} <= known}
    labels = table.categories("label")
    values = set(labels.occurring()) - {UNKNOWN_LABEL}
    if not values <= NUMBERED_LABELS and not np.isnan(Texts.encode(values).floats()).any():
        first_row = [table.texts(name)[0] for name in table.places]
        raise ValueError(describe_two_scores(str(table.source), first_row))
    return {"label": labels}


def check_labels(where: str, name: str, column: Categories, key: Protocol, is_own_form: bool) -> None:
    """Holds a column of labels against a key.

    Of 0 and 1, either may stand for bona fide. A column that only a user's word makes one of a score file need not
    be of true labels, unless its name says so: it is warned of alone.

    Labels are in the order of the key; one without labels says nothing against them.

    Raises:
        ValueError: a label that contradicts the key, or is none.
    """
    if key.labels is None:
        return
    values = set(column.occurring()) - {UNKNOWN_LABEL}
    spelled = {**LABEL_WORDS, **key.spellings}
    is_numbered = values <= NUMBERED_LABELS and not spelled.keys() & values
    if is_numbered:
        spelled |= (
            {"0": Label.SPOOF, "1": Label.BONAFIDE} if len(values) > 1 else dict.fromkeys(values, _NONE)
        )
    unknown = next((value for value in sorted(values) if not {value, value.lower()} & spelled.keys()), None)
    if unknown is not None:
        raise ValueError(
            f"{where}: found {name} {quote(unknown)}, expected bonafide or spoof, as in TRIAL ATTACK KEY SCORE; "
            f"{REMEDY}"
        )
    of_value = [spelled.get(value, spelled.get(value.lower(), _NONE)) for value in column.values]
    labels = np.array(of_value)[column.codes]
    contradicts = (labels != _NONE) & (labels != key.labels)
    num_contradicting = np.count_nonzero(contradicts)
    if not num_contradicting or (is_numbered and num_contradicting == np.count_nonzero(labels != _NONE)):
        return
    row = int(np.argmax(contradicts))
    message = (
        f"{where}: found {name} {quote(column.values[column.codes[row]])} of trial {quote(key.names[row])}, expected "
        f"{Label(key.labels[row]).name.lower()} as in {key.source}; {num_contradicting} of {len(key)} contradict it"
    )
    if not is_own_form or name.lower() in LABEL_NAMES:
        raise ValueError(message)
    logger.warning("%s", message)
