"""How messages quote what was found, in one line and of bounded length, and say what may have been meant."""

import difflib
from collections.abc import Iterable

MAX_QUOTED = 80
"""Characters of what is quoted; a field of a table may have thousands."""


def shorten(text: str) -> str:
    """Returns a text, or where it is long its beginning and a mark that it was cut."""
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}...[cut]"


def quote(found: object) -> str:
    """Returns a value as Python writes it, so that a line end is no line end, and not at length."""
    return shorten(repr(found))


def make_visible(text: str) -> str:
    """Returns a name as it can be shown, with line ends, marks of direction and the like as Python writes them."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text
    )


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "", cutoff: float = 0.6) -> str:
    """Returns how a message ends: with the known name that is near, by a cutoff from 0 to 1, or otherwise."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=cutoff)
    return f"; did you mean {close[0]}?" if close else otherwise
