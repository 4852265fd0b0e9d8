"""The settings of a degradation: keyword-only parameters of its function, whose annotations say what they take."""

import inspect
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from sls.data.corpora.track_schema import Entry
from sls.quotation import quote

Setting = float | str
Degradation = Callable[..., np.ndarray]
"""From a waveform, a generator where it draws, and settings by name to another waveform."""


class Within(NamedTuple):
    """The bounds of a number."""

    least: float
    most: float


class OneOf(NamedTuple):
    """The numbers or names that there are."""

    values: tuple[Setting, ...]


Taken = Within | OneOf | str
"""What a setting takes; a text says what a name is of."""


def show(value: Setting) -> str:
    """Returns a value as a table shows it."""
    return value if isinstance(value, str) else f"{value:g}"


def settings_of(degradation: Degradation) -> dict[str, Taken]:
    """Returns what each setting of a degradation takes, by its name."""
    hints = typing.get_type_hints(degradation, include_extras=True)
    names = inspect.getfullargspec(degradation).kwonlyargs
    return {name: typing.get_args(hints[name])[1] for name in names}


def read_settings(degradation: Degradation, entry: Entry) -> dict[str, Setting]:
    """Returns all settings of a degradation: those of an entry, and defaults for the others.

    Raises:
        ValueError: an unknown setting, one that it does not take, or none where there is no default.
    """
    taken = settings_of(degradation)
    entry.check_names(["kind", *taken])
    values = {**(inspect.getfullargspec(degradation).kwonlydefaults or {}), **entry.values}
    for name in taken:
        if name not in values:
            raise ValueError(f"{entry.where}: found no {name}, expected one")
        check_setting(values[name], taken[name], f"{entry.where}.{name}")
    return {name: values[name] if isinstance(values[name], str) else float(values[name]) for name in taken}


def check_setting(value: Any, taken: Taken, where: str) -> None:
    """Raises ValueError where a value is not what a setting takes; NaN never is."""
    match taken:
        case Within(least, most):
            is_taken = isinstance(value, int | float) and least <= value <= most
            expected = f"a number from {least:g} to {most:g}"
        case OneOf(values):
            is_taken, expected = value in values, "one of " + ", ".join(map(show, values))
        case _:
            is_taken, expected = isinstance(value, str) and value != "", taken
    if not is_taken or isinstance(value, bool):
        raise ValueError(f"{where}: found {quote(value)}, expected {expected}")
