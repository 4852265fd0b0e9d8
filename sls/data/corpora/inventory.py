"""What of the corpora lies under a data root, what can be run with it, and what is still to download."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sls.data.corpora.audio_inventory import AudioInventory, Depth, InventoryProgress, inspect_recordings
from sls.data.corpora.track import DOWNLOAD_PARTS, NotThereError, Track
from sls.data.tables.asv_scores import AsvScores
from sls.data.tables.protocols import ALL_SUBSETS, Label, Protocol

TRAINING_TRACK = "train"
"""The track that training uses."""


@dataclass(frozen=True)
class KeyInventory:
    """The key of one track."""

    source: str
    counts: Mapping[str, int]
    """Trials, bona fide and spoofed."""
    subsets: Mapping[str, int]
    """Trials by subset."""
    unkeyed: int
    """Trials of the protocol that the key does not hold."""
    unlisted: int
    """Trials of the key that the protocol does not hold."""
    holds_subset: bool
    """Whether it holds trials of the subset over which the track's figures are computed."""


@dataclass(frozen=True)
class TrackInventory:
    """What there is of one track."""

    track: str
    title: str
    corpus: str
    protocol: str | None
    """The list of trials; None where there is none, or it cannot be read."""
    trials: int
    audio: AudioInventory
    key: KeyInventory | None
    asv_trials: Mapping[str, int] | None
    """ASV trials by role; None where there are no ASV scores, or the track needs none."""
    problems: tuple[str, ...]
    """What stands against using all of the track, one line each."""
    can_train: bool
    """Whether every trial has a label and a recording, and both classes are there."""
    can_score: bool
    """Whether every trial has a recording."""
    metrics: tuple[str, ...]
    """The metrics that a score file of this track can be evaluated by; empty without a key of its subset."""
    download: tuple[str, ...]
    """What to download where something is missing, and from where."""
    is_absent: bool
    """Whether nothing of it is there, not even a list or key that is wrong."""

    @property
    def is_usable(self) -> bool:
        """Whether nothing is missing or wrong."""
        return not self.problems


@dataclass
class _Problems:
    """What stands against using a track, as it is found."""

    lines: list[str] = field(default_factory=list)
    are_absences: bool = True
    """Whether no more is wrong than that something is not there."""

    def add(self, error: Exception) -> None:
        """Notes an error, once."""
        line = error.reason if isinstance(error, NotThereError) else str(error)
        self.are_absences = self.are_absences and isinstance(error, NotThereError)
        if line not in self.lines:
            self.lines.append(line)


def take_inventory(
    tracks: Iterable[Track], data_root: str | Path, *, depth: Depth = "headers", num_workers: int = 0
) -> Iterator[InventoryProgress | TrackInventory]:
    """Looks at each track under a data root.

    Args:
        tracks: what to look for.
        data_root: the directory under which the corpora lie.
        depth: how far to look into the recordings.
        num_workers: threads that look into them; 0 does it in this one.

    Yields:
        For each track its progress, now and then, and at last its inventory. What is missing or wrong is
        told there, not raised.

    Raises:
        FileNotFoundError: there is no such data root.
    """
    root = Path(data_root)
    if not root.is_dir():
        raise FileNotFoundError(f"data_root: no directory {root} (looked in {Path.cwd()})")
    for track in tracks:
        yield from _inspect_track(track, root, depth, num_workers)


def describe_use(inventories: Sequence[TrackInventory]) -> list[str]:
    """Says in lines what can be run and what is still to download."""
    lines = []
    labelled = [item.track for item in inventories if item.can_train]
    trainable = [name for name in labelled if name == TRAINING_TRACK]
    validatable = [name for name in labelled if name != TRAINING_TRACK]
    scorable = [item.track for item in inventories if item.can_score]
    evaluable = [f"{item.track} ({', '.join(item.metrics)})" for item in inventories if item.metrics]
    for what, names in (
        ("train on", trainable),
        ("validate on", validatable),
        ("score", scorable),
        ("evaluate", evaluable),
    ):
        lines.append(f"can {what}: {', '.join(names) if names else 'nothing'}")
    downloads: dict[str, list[str]] = {}
    for item in inventories:
        for hint in item.download:
            downloads.setdefault(hint, []).append(item.track)
    lines.extend(f"to download for {', '.join(names)}: {hint}" for hint, names in downloads.items())
    return lines


def _inspect_track(
    track: Track, root: Path, depth: Depth, num_workers: int
) -> Iterator[InventoryProgress | TrackInventory]:
    problems = _Problems()
    protocol = _read_protocol(track, root, problems)
    audio = AudioInventory()
    if protocol is not None:
        for step in inspect_recordings(track, protocol, root, depth, num_workers, problems.lines):
            if isinstance(step, InventoryProgress):
                yield step
            else:
                audio = step
    needed = [track.list_part()] if protocol is None else []
    needed += ["audio"] if protocol is None or audio.missing or audio.unreadable else []
    num_found = len(problems.lines)
    key, key_counts = _inspect_key(track, protocol, root, problems)
    asv = _read_asv(track, root, problems)
    needed += ["key"] if len(problems.lines) > num_found or key is None else []
    has_audio = audio.present > 0 and audio.missing == 0 and not audio.unreadable
    metrics = tuple(
        metric
        for metric in track.metrics
        if key is not None and key.holds_subset and (asv is not None or "tdcf" not in metric)
    )
    yield TrackInventory(
        track=track.name,
        title=track.title,
        corpus=track.corpus,
        protocol=None if protocol is None else str(protocol.source),
        trials=0 if protocol is None else len(protocol),
        audio=audio,
        key=key,
        asv_trials=None if asv is None else asv.counts(),
        problems=tuple(problems.lines),
        can_train=has_audio and all(key_counts.get(label.name.lower(), 0) for label in Label),
        can_score=has_audio,
        metrics=metrics,
        download=track.downloads([part for part in DOWNLOAD_PARTS if part in needed]),
        is_absent=protocol is None and key is None and problems.are_absences,
    )


def _read_protocol(track: Track, root: Path, problems: _Problems) -> Protocol | None:
    try:
        return track.protocol(root)
    except (FileNotFoundError, ValueError) as error:
        problems.add(error)
        if isinstance(error, NotThereError):
            return None
    try:
        return track.protocol(root, is_checked=False)  # wrong counts only: the rest can still be told
    except (FileNotFoundError, ValueError):
        return None


def _inspect_key(
    track: Track, protocol: Protocol | None, root: Path, problems: _Problems
) -> tuple[KeyInventory | None, dict[str, int]]:
    try:
        key = track.key(root)
    except (FileNotFoundError, ValueError) as error:
        # Where there is no list either, it was told that there is neither.
        if protocol is not None or not isinstance(error, NotThereError):
            problems.add(error)
        return None, {}
    keyed = set(key.names.tolist())
    listed = keyed if protocol is None else set(protocol.names.tolist())
    unkeyed, unlisted = len(listed - keyed), len(keyed - listed)
    if unkeyed or unlisted:
        problems.lines.append(
            f"{key.source}: {unkeyed} trials of the protocol are not in the key, and {unlisted} of the key not "
            "in the protocol"
        )
    subsets = Counter(key.fields["subset"].tolist()) if "subset" in key.fields else Counter()
    holds_subset = not subsets or track.default_subset in (*subsets, ALL_SUBSETS)
    if not holds_subset:
        found = " or ".join(sorted(subsets))
        problems.lines.append(
            f"{key.source}: found no trial of subset {track.default_subset}, over which the figures of track "
            f"{track.name} are computed; what is there can be evaluated by subset={found}"
        )
    counts = key.counts()
    return KeyInventory(str(key.source), counts, dict(subsets), unkeyed, unlisted, holds_subset), counts


def _read_asv(track: Track, root: Path, problems: _Problems) -> AsvScores | None:
    try:
        asv = track.asv_scores(root)
    except (FileNotFoundError, ValueError) as error:
        problems.add(error)
        return None
    if asv is None and track.asv_scores_search is not None:
        problems.lines.append(f"track {track.name}: no ASV scores: {track.asv_scores_search.describe(root)}")
    return asv
