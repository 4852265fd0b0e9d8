"""The settings of a degradation: keyword-only parameters of its function, whose annotations say what they take."""

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sls.data.corpora.track_schema import Entry
from sls.quotation import quote

Setting = float | str
Degradation = Callable[..., np.ndarray]
"""From a waveform, a generator and settings by name to another waveform."""


@dataclass(frozen=True)
class Within:
    """The bounds of a number."""

    least: float
    most: float

    def allows(self, value: Any) -> bool:
        """Whether a value is a number within them; NaN is not."""
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and self.least <= value <= self.most
        )

    def __str__(self) -> str:
        return f"a number from {self.least:g} to {self.most:g}"


@dataclass(frozen=True)
class OneOf:
    """The only numbers that there are."""

    values: tuple[float, ...]

    def allows(self, value: Any) -> bool:
        """Whether a value is one of them."""
        return not isinstance(value, bool) and value in self.values

    def __str__(self) -> str:
        return "one of " + ", ".join(f"{value:g}" for value in self.values)


@dataclass(frozen=True)
class Folder:
    """A directory with recordings."""

    def allows(self, value: Any) -> bool:
        """Whether a value may be the name of one."""
        return isinstance(value, str) and bool(value)

    def __str__(self) -> str:
        return "the name of a folder"


def settings_of(degradation: Degradation) -> dict[str, Within | OneOf | Folder]:
    """Returns what each setting of a degradation takes, by its name."""
    hints = typing.get_type_hints(degradation, include_extras=True)
    return {
        name: typing.get_args(hints[name])[1]
        for name, parameter in inspect.signature(degradation).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def read_settings(degradation: Degradation, entry: Entry) -> dict[str, Setting]:
    """Returns all settings of a degradation: those of an entry, and defaults for the others.

    Raises:
        ValueError: an unknown setting, one out of range, or none where there is no default.
    """
    taken = settings_of(degradation)
    entry.check_names(["kind", *taken])
    parameters = inspect.signature(degradation).parameters
    values = {name: entry.values.get(name, parameters[name].default) for name in taken}
    for name, value in values.items():
        if not taken[name].allows(value):
            found = "nothing" if value is inspect.Parameter.empty else quote(value)
            raise ValueError(f"{entry.where}.{name}: found {found}, expected {taken[name]}")
    return {name: value if isinstance(value, str) else float(value) for name, value in values.items()}
