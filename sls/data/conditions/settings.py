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
"""From a waveform and settings by name, and a generator where it draws, to another waveform."""


@dataclass(frozen=True)
class Within:
    """The bounds of a number."""

    least: float
    most: float

    def __str__(self) -> str:
        return f"a number from {self.least:g} to {self.most:g}"


@dataclass(frozen=True)
class OneOf:
    """The numbers or names that there are."""

    values: tuple[Setting, ...]

    def __str__(self) -> str:
        return "one of " + ", ".join(map(show, self.values))


Taken = Within | OneOf | str
"""What a setting takes; a text that says what it names."""


def show(value: Setting) -> str:
    """Returns a value as a table shows it."""
    return value if isinstance(value, str) else f"{value:g}"


def settings_of(degradation: Degradation) -> dict[str, Taken]:
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
        ValueError: an unknown setting, one that it does not take, or none where there is no default.
    """
    taken = settings_of(degradation)
    entry.check_names(["kind", *taken])
    parameters = inspect.signature(degradation).parameters
    values = {name: entry.values.get(name, parameters[name].default) for name in taken}
    for name, value in values.items():
        check_setting(value, taken[name], f"{entry.where}.{name}")
    return {name: value if isinstance(value, str) else float(value) for name, value in values.items()}


def check_setting(value: Any, taken: Taken, where: str) -> None:
    """Raises ValueError where a value is not what a setting takes; NaN never is."""
    if isinstance(taken, str):
        is_taken = isinstance(value, str) and value != ""
    elif isinstance(taken, OneOf):
        is_taken = not isinstance(value, bool) and value in taken.values
    else:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        is_taken = is_number and taken.least <= value <= taken.most
    if not is_taken:
        found = "nothing" if value is inspect.Parameter.empty else quote(value)
        raise ValueError(f"{where}: found {found}, expected {taken}")
