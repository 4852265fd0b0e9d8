"""Reading a tracks file: every entry is checked, and an error names the file and the entry."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sls.data.tables.formats import DELIMITERS, IGNORED_COLUMN, TableFormat
from sls.data.tables.protocols import Label
from sls.files import looked_in
from sls.quotation import did_you_mean, quote, shorten
from sls.yaml_file import read_yaml

_LABELS = {"bonafide": Label.BONAFIDE, "spoof": Label.SPOOF}
DEFAULT_LABELS = {"bonafide": Label.BONAFIDE, "bona-fide": Label.BONAFIDE, "spoof": Label.SPOOF}
"""Spellings of the labels where a format declares none."""


@dataclass(frozen=True)
class Entry:
    """A mapping in a YAML file, and where it stands."""

    where: str
    values: Mapping[str, Any]

    def check_names(self, known: Sequence[str]) -> None:
        """Raises ValueError where there is a name that is not known, with the nearest that is."""
        for name in self.values:
            if name not in known:
                hint = did_you_mean(str(name), known)
                raise ValueError(
                    f"{self.where}: found {shorten(str(name))}, expected some of {', '.join(known)}{hint}"
                )

    def text(self, name: str, default: str | None = None) -> str:
        """Returns a text, or the default; without a default it must be there."""
        value = self.values.get(name, default)
        if not isinstance(value, str) or (default is None and not value):
            raise ValueError(f"{self.where}.{name}: found {quote(value)}, expected a text")
        return value

    def texts(self, name: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        """Returns a list of texts (one text is a list of one), or the default."""
        value = self.values.get(name, default)
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{self.where}.{name}: found {quote(value)}, expected a list of texts")
        return tuple(value)

    def choices(
        self, name: str, known: Collection[str], default: Sequence[str] | None = None
    ) -> tuple[str, ...]:
        """Returns a list of texts, as `texts` does, each of which is known."""
        found = self.texts(name, default)
        for item in found:
            if item not in known:
                raise ValueError(
                    f"{self.where}.{name}: found {shorten(item)}, expected some of: {', '.join(known)}"
                )
        return found

    def entry(self, name: str) -> Entry | None:
        """Returns a mapping within this one, or None where it is absent."""
        return as_entry(self.values[name], f"{self.where}.{name}") if name in self.values else None

    def entries(self) -> dict[str, Entry]:
        """Returns the mappings within this one, by name."""
        return {
            str(name): as_entry(value, f"{self.where}.{shorten(str(name))}")
            for name, value in self.values.items()
        }


def as_entry(value: Any, where: str) -> Entry:
    """Raises ValueError where a value is not a mapping."""
    if not isinstance(value, dict):
        raise ValueError(f"{where}: found {quote(value)}, expected name: value lines")
    return Entry(where, value)


def read_yaml_entry(path: str | Path) -> Entry:
    """Reads a YAML file whose content is a mapping; raises FileNotFoundError, or ValueError where it is none."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file{looked_in(path)}")
    return as_entry(read_yaml(path), str(path))


def parse_format(name: str, entry: Entry) -> TableFormat:
    """Builds a table format from its entry; raises ValueError for an unknown name or value."""
    entry.check_names(["columns", "delimiter", "labels", "subsets"])
    columns, header = _parse_columns(entry)
    delimiter = entry.text("delimiter", "whitespace")
    if delimiter not in DELIMITERS:
        raise ValueError(
            f"{entry.where}.delimiter: found {shorten(delimiter)}, expected one of: {', '.join(DELIMITERS)}"
        )
    labels = entry.entry("labels")
    subsets = entry.entry("subsets")
    return TableFormat(
        name,
        columns,
        header,
        DELIMITERS[delimiter],
        DEFAULT_LABELS if labels is None else _parse_labels(labels),
        {} if subsets is None else {spelling: name for name, spelling in _parse_spellings(subsets)},
    )


def _parse_columns(entry: Entry) -> tuple[tuple[str, ...], tuple[str, ...]]:
    value = entry.values.get("columns")
    if isinstance(value, dict):  # our name: name in the header
        columns = tuple(map(str, value))
        header = tuple(map(str, value.values()))
    else:
        columns, header = entry.texts("columns"), ()
    named = [name for name in columns if name != IGNORED_COLUMN]
    repeated = [name for name in named if named.count(name) > 1]
    if repeated:
        raise ValueError(f"{entry.where}.columns: found {shorten(repeated[0])} twice, expected each once")
    if not named:
        raise ValueError(f"{entry.where}.columns: found no column, expected one at least")
    return columns, header


def _parse_labels(entry: Entry) -> dict[str, Label]:
    entry.check_names(list(_LABELS))
    spellings = {spelling: _LABELS[name] for name, spelling in _parse_spellings(entry)}
    if set(spellings.values()) != set(Label):
        raise ValueError(
            f"{entry.where}: found {quote(entry.values)}, expected spellings of bonafide and spoof"
        )
    return spellings


def _parse_spellings(entry: Entry) -> list[tuple[str, str]]:
    return [(name, spelling) for name in entry.values for spelling in entry.texts(name)]
