"""What people save around the weights of a countermeasure: dictionaries, and prefixes of the names."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sls.models.checkpoints.names import unify_weight_norm
from sls.quotation import shorten

ENCODER_PREFIX = "ssl_model.model."
"""What stands before fairseq's names of the encoder in a published SLS file."""
COUNTER = "first_bn.num_batches_tracked"
"""Which does not bear on what the model computes, and which some leave out."""

_WRAPPERS = re.compile(r"(?:(?<=\.)|^)(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_USUAL_WRAPPER = "module."  # of torch.nn.DataParallel, as in the published files
_PREFIX = re.compile(rf"((?:.*\.)?){re.escape(ENCODER_PREFIX)}")
_MAX_DEPTH = 3

_LOGGER = logging.getLogger(__name__)


def unwrap(content: Any, source: str) -> dict[str, Tensor]:
    """Returns the weights of the one countermeasure in a file by their published names; nothing where there is none.

    The log says in one line where they were, by what prefix, and what else the file holds.

    Raises:
        ValueError: There are several countermeasures, or two weights would have one name.
    """
    walked = dict(_walk(content, (), source))
    places = {
        (place, match[1]) for place, names in walked.items() for match in map(_PREFIX.match, names) if match
    }
    if not places:
        return {}
    if len(places) > 1:
        listed = ", ".join(
            sorted(
                shorten(".".join([*place, prefix]).strip(".")) or "the file itself"
                for place, prefix in places
            )
        )
        raise ValueError(f"{source}: found several countermeasures ({listed}), expected one; save one alone")
    [(place, prefix)] = places
    names, holder = walked[place], _hold(content, place)
    state = {plain.removeprefix(prefix): holder[names[plain]] for plain in names if plain.startswith(prefix)}
    aside = [name for plain, name in names.items() if not plain.startswith(prefix)]
    wrappers = sorted({"".join(_WRAPPERS.findall(name)) for name in names.values()} - {"", _USUAL_WRAPPER})
    _log(
        source,
        place,
        [*wrappers, *filter(None, [prefix])],
        [*aside, *_beside(content, place)],
        COUNTER in state,
    )
    return {COUNTER: torch.tensor(0), **state}


def _log(
    source: str, place: Sequence[str], dropped: Sequence[str], aside: Sequence[str], is_counted: bool
) -> None:
    said = [f"taken from {'.'.join(place)}"] if place else []
    said += [f"named without {', '.join(dropped)}"] if dropped else []
    said += [f"not used: {', '.join(aside)}"] if aside else []
    said += [] if is_counted else [f"{COUNTER} is not there, and counts as 0"]
    if said:
        _LOGGER.info("%s: weights %s", source, "; ".join(said))


def _walk(
    content: Any, place: tuple[str, ...], source: str
) -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    """Yields where each dictionary is, and the names of its weights by those without wrappers."""
    if not isinstance(content, Mapping) or len(place) > _MAX_DEPTH:
        return
    names: dict[str, str] = {}
    for name, item in content.items():
        if not isinstance(name, str):
            continue
        if isinstance(item, Tensor):
            plain = unify_weight_norm(_WRAPPERS.sub("", name))
            if plain in names:
                raise ValueError(
                    f"{source}: found both {shorten(names[plain])} and {shorten(name)}, expected each weight once"
                )
            names[plain] = name
        yield from _walk(item, (*place, name), source)
    yield place, names


def _hold(content: Any, place: tuple[str, ...]) -> Any:
    for name in place:
        content = content[name]
    return content


def _beside(content: Any, place: tuple[str, ...]) -> Iterator[str]:
    """Yields the names of what is no weight beside those of a place, and of all that is beside it and above."""
    for depth, inner in enumerate(place):
        holder = _hold(content, place[:depth])
        yield from (".".join([*place[:depth], str(name)]) for name in holder if name != inner)
    yield from (str(name) for name, item in _hold(content, place).items() if not isinstance(item, Tensor))
