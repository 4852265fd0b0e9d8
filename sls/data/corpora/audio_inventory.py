"""The recordings of a track under a data root: which are there, how long they are, and which cannot be read."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Literal

from sls.data.audio.recording import AudioError, AudioFacts, inspect_audio
from sls.data.audio.warnings import count_warnings
from sls.data.corpora.track import Track
from sls.data.tables.protocols import Protocol

Depth = Literal["names", "headers", "decode"]
"""How far recordings are looked into: whether they are there, what their headers say, or every sample."""
Show = Callable[[str, int, int], object]
"""Is told, now and then, the name of a track, how many of its recordings were looked into, and of how many."""

_CHUNK = 64  # recordings that a worker takes at a time
_EXAMPLES = 100


@dataclass(frozen=True)
class UnreadableFile:
    """A recording that cannot be used."""

    path: str
    message: str


@dataclass(frozen=True)
class AudioInventory:
    """The recordings of one track."""

    folders: tuple[str, ...] = ()
    present: int = 0
    missing: int = 0
    missing_examples: tuple[str, ...] = ()
    extra: int = 0
    """Recordings in the folders that belong to no trial."""
    extra_examples: tuple[str, ...] = ()
    checked: int = 0
    """Recordings looked into."""
    unreadable: tuple[UnreadableFile, ...] = ()
    total_duration_s: float | None = None
    """Seconds of all recordings looked into; None where none was."""
    shortest_s: float | None = None
    longest_s: float | None = None
    sample_rates_hz: Mapping[int, int] = field(default_factory=dict)
    """Number of recordings by sampling rate in Hz."""
    warnings: Mapping[str, int] = field(default_factory=dict)
    """Number of recordings by what makes their scores less sure (silent, clipped, ...); most only decoding tells."""

    def problems(self) -> Iterator[str]:
        """Says in a line each what is missing and what cannot be read."""
        if self.missing_examples:
            total, first = self.present + self.missing, Path(self.missing_examples[0]).name
            yield f"{self.missing} of {total} recordings are missing, the first {first}"
        if self.unreadable:
            count, first = len(self.unreadable), self.unreadable[0].message
            yield f"{count} of {self.checked} recordings cannot be read, the first: {first}"


def inspect_recordings(
    track: Track, protocol: Protocol, root: Path, depth: Depth, num_workers: int, show: Show
) -> AudioInventory:
    """Looks for the recordings of a track, and into them.

    Args as `sls.data.corpora.inventory.take_inventory`.

    Raises:
        NotThereError: none of its folders exists.
    """
    located = track.locate(protocol, root)
    found = []
    if depth != "names":
        missing = set(located.missing)
        paths = [str(path) for path in located.paths if path not in missing]
        found = _look_into(paths, depth == "decode", num_workers, partial(show, track.name))
    facts = [one for one in found if isinstance(one, AudioFacts)]
    durations_s = [fact.duration_s for fact in facts if fact.duration_s is not None]
    return AudioInventory(
        folders=tuple(map(str, located.folders)),
        present=len(located.paths) - len(located.missing),
        missing=len(located.missing),
        missing_examples=tuple(map(str, located.missing[:_EXAMPLES])),
        extra=len(located.extra),
        extra_examples=tuple(located.extra[:_EXAMPLES]),
        checked=len(found),
        unreadable=tuple(one for one in found if isinstance(one, UnreadableFile)),
        total_duration_s=sum(durations_s) if durations_s else None,
        shortest_s=min(durations_s, default=None),
        longest_s=max(durations_s, default=None),
        sample_rates_hz=dict(Counter(fact.sample_rate_hz for fact in facts).most_common()),
        warnings=dict(count_warnings(fact.warnings for fact in facts)),
    )


def _look_into(
    paths: list[str], is_decoded: bool, num_workers: int, show: Callable[[int, int], object]
) -> list[AudioFacts | UnreadableFile]:
    inspect = partial(_inspect, is_decoded=is_decoded)
    found: list[AudioFacts | UnreadableFile] = []
    with ExitStack() as stack:
        results: Iterator[AudioFacts | UnreadableFile] = map(inspect, paths)
        if num_workers:  # threads do: both decoders work outside Python's lock
            results = stack.enter_context(ThreadPool(num_workers)).imap(inspect, paths, _CHUNK)
        for result in results:
            found.append(result)
            if len(found) % _CHUNK == 0 or len(found) == len(paths):
                show(len(found), len(paths))
    return found


def _inspect(path: str, is_decoded: bool) -> AudioFacts | UnreadableFile:
    try:
        return inspect_audio(path, is_decoded=is_decoded)
    except (AudioError, FileNotFoundError) as error:
        return UnreadableFile(path, str(error))
