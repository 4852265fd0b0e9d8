"""How messages quote what was found, in one line and of bounded length, count it, and say what may be meant."""

import difflib
from collections.abc import Iterable, Iterator, Sequence

MAX_QUOTED = 80
"""Characters of what is quoted; a field of a table may have thousands."""
MAX_LISTED = 12
"""Names of one kind."""
MAX_TOLD = 400
"""Characters of what a library says."""


def shorten(text: str, most: int = MAX_QUOTED) -> str:
    """Returns a text in one line, or where it has more characters its beginning and a mark that it was cut."""
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= most else f"{text[:most]}...[cut]"


def list_some(texts: Sequence[str], most: int = MAX_QUOTED) -> str:
    """Returns texts in one line, each as `shorten` does, and how many more there are beyond `MAX_LISTED`."""
    more = f" and {len(texts) - MAX_LISTED} more" if len(texts) > MAX_LISTED else ""
    return ", ".join(shorten(text, most) for text in texts[:MAX_LISTED]) + more


def quote(found: object) -> str:
    """Returns a value as Python writes it, so that a line end is no line end, and not at length.

    No more of it is written than is quoted: lists that hold one another by reference may stand for billions.
    """
    text = ""
    for part in _parts(found):
        text += part
        if len(text) > MAX_QUOTED:
            break
    return shorten(text)


def _parts(value: object) -> Iterator[str]:
    """Yields how Python writes a value, piece by piece."""
    if type(value) is dict and value:
        for number, (key, item) in enumerate(value.items()):
            yield ", " if number else "{"
            yield from _parts(key)
            yield ": "
            yield from _parts(item)
        yield "}"
    elif isinstance(value, list | tuple) and type(value) in (list, tuple) and value:
        opening, closing = "[]" if type(value) is list else "()"
        for number, item in enumerate(value):
            yield ", " if number else opening
            yield from _parts(item)
        yield f",{closing}" if type(value) is tuple and len(value) == 1 else closing
    elif (
        type(value) is int and value.bit_length() > MAX_QUOTED << 3
    ):  # Python refuses to write some thousand digits
        yield f"a number of {value.bit_length()} bits"
    else:
        yield repr(value)


def first_line(error: BaseException) -> str:
    """Returns the first line of what an error says, or its kind where it says nothing."""
    return shorten(next(iter(str(error).splitlines()), "") or type(error).__name__, MAX_TOLD)


def count_of(number: int, one: str, several: str = "") -> str:
    """Returns a number with what it counts, `1 file` or `2 files`; several of them have an s, if not another name."""
    return f"{number} {one}" if number == 1 else f"{number} {several or one + 's'}"


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
