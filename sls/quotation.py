"""How messages quote what was found: in one line, and of something long its beginning alone."""

from __future__ import annotations

MAX_QUOTED = 80
"""Characters of what is quoted; a field of a table may have thousands."""


def shorten(text: str) -> str:
    """Returns a text, or where it is long its beginning and a mark that it was cut."""
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}...[cut]"


def quote(found: object) -> str:
    """Returns a value as Python writes it, so that a line end is no line end, and not at length."""
    return shorten(repr(found))
