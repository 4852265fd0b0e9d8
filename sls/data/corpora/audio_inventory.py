"""The recordings of a track under a data root: which are there, how long they are, and which cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from sls.data.audio.recording import AudioError, AudioFacts, inspect_audio
from sls.data.corpora.track import NotThereError, Track
from sls.data.tables.protocols import Protocol

Depth = Literal["names", "headers", "decode"]
"""How far recordings are looked into: whether they are there, what their headers say, or every sample."""

_CHUNK = 64  # recordings that a worker takes at a time
_EXAMPLES = 100


@dataclass(frozen=True)
class InventoryProgress:
    """How far the recordings of one track have been looked into."""

    track: str
    checked: int
    total: int


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


def inspect_recordings(
    track: Track, protocol: Protocol, root: Path, depth: Depth, num_workers: int, problems: list[str]
) -> Iterator[InventoryProgress | AudioInventory]:
    """Looks for the recordings of a track, and into them.

    Args:
        track: where its recordings may lie.
        protocol: its trials.
        root: the data root.
        depth: how far to look into the recordings.
        num_workers: threads that look into them; 0 does it in this one.
        problems: what is missing or wrong is added here, one line each.

    Yields:
        Progress, now and then, and at last what was found.
    """
    try:
        located = track.locate(protocol, root)
    except NotThereError as error:
        problems.append(error.reason)
        yield AudioInventory(missing=len(protocol))
        return
    missing = located.missing
    if missing:
        problems.append(
            f"track {track.name}: {len(missing)} of {len(protocol)} recordings are missing, the first "
            f"{missing[0].name}"
        )
    found = AudioInventory(
        folders=tuple(map(str, located.folders)),
        present=len(protocol) - len(missing),
        missing=len(missing),
        missing_examples=tuple(str(path) for path in missing[:_EXAMPLES]),
        extra=len(located.extra),
        extra_examples=tuple(located.extra[:_EXAMPLES]),
    )
    if depth == "names":
        yield found
        return
    paths = [str(path) for path, absent in zip(located.paths, located.is_missing, strict=True) if not absent]
    facts: list[AudioFacts] = []
    unreadable: list[UnreadableFile] = []
    for results in _inspect_files(paths, depth == "decode", num_workers):
        for result in results:
            if isinstance(result, UnreadableFile):
                unreadable.append(result)
            else:
                facts.append(result)
        yield InventoryProgress(track.name, len(facts) + len(unreadable), len(paths))
    if unreadable:
        problems.append(
            f"track {track.name}: {len(unreadable)} of {len(paths)} recordings cannot be read, the first: "
            f"{unreadable[0].message}"
        )
    yield _add_facts(found, facts, unreadable)


def _add_facts(
    found: AudioInventory, facts: list[AudioFacts], unreadable: list[UnreadableFile]
) -> AudioInventory:
    durations_s = [fact.duration_s for fact in facts if fact.duration_s is not None]
    return replace(
        found,
        checked=len(facts) + len(unreadable),
        unreadable=tuple(unreadable),
        total_duration_s=sum(durations_s) if durations_s else None,
        shortest_s=min(durations_s, default=None),
        longest_s=max(durations_s, default=None),
        sample_rates_hz=dict(Counter(fact.sample_rate_hz for fact in facts).most_common()),
    )


def _inspect_files(
    paths: list[str], is_decoded: bool, num_workers: int
) -> Iterator[list[AudioFacts | UnreadableFile]]:
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    flags = [is_decoded] * len(chunks)
    if num_workers == 0:
        yield from map(_inspect_chunk, chunks, flags)
        return
    executor = ThreadPoolExecutor(num_workers)  # threads do: both decoders work outside Python's lock
    try:
        yield from executor.map(_inspect_chunk, chunks, flags)
    finally:
        executor.shutdown(cancel_futures=True)


def _inspect_chunk(paths: list[str], is_decoded: bool) -> list[AudioFacts | UnreadableFile]:
    results: list[AudioFacts | UnreadableFile] = []
    for path in paths:
        try:
            results.append(inspect_audio(path, is_decoded=is_decoded))
        except (AudioError, FileNotFoundError) as error:
            results.append(UnreadableFile(path, str(error)))
    return results
