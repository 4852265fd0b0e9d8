"""What of the corpora lies under a data root, what can be run with it, and what is still to download."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from sls.data.corpora.audio_inventory import AudioInventory, Depth, Show, inspect_recordings
from sls.data.corpora.track import DOWNLOAD_PARTS, NotThereError, Track
from sls.data.tables.asv_scores import AsvScores
from sls.data.tables.protocols import ALL_SUBSETS, Label, Protocol
from sls.data.tables.score_files import check_names
from sls.files import looked_in

TRAINING_TRACK = "train"
"""The track that training uses."""

Read = TypeVar("Read")


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

    def attempt(self, read: Callable[[], Read], *, tells_absence: bool = True) -> Read | None:
        """Returns what a function reads, or None where it cannot, whose error is noted, once."""
        try:
            return read()
        except NotThereError as error:
            line = error.reason if tells_absence else ""
        except (FileNotFoundError, ValueError) as error:
            line, self.are_absences = str(error), False
        if line and line not in self.lines:
            self.lines.append(line)
        return None


def take_inventory(
    tracks: Iterable[Track],
    data_root: str | Path,
    *,
    depth: Depth = "headers",
    num_workers: int = 0,
    show: Show = lambda track, checked, total: None,
) -> list[TrackInventory]:
    """Looks at each track under a data root; what is missing or wrong is told there, not raised.

    So many threads look into the recordings, 0 does it in this one; `show` is told how far it is.

    Raises:
        FileNotFoundError: there is no such data root.
    """
    root = Path(data_root)
    if not root.is_dir():
        raise FileNotFoundError(f"data_root: no directory {root}{looked_in(root)}")
    return [_inspect_track(track, root, depth, num_workers, show) for track in tracks]


def describe_use(inventories: Sequence[TrackInventory]) -> list[str]:
    """Says in lines what can be run and what is still to download."""
    labelled = [item.track for item in inventories if item.can_train]
    use = {
        "train on": [name for name in labelled if name == TRAINING_TRACK],
        "validate on": [name for name in labelled if name != TRAINING_TRACK],
        "score": [item.track for item in inventories if item.can_score],
        "evaluate": [f"{item.track} ({', '.join(item.metrics)})" for item in inventories if item.metrics],
    }
    lines = [f"can {what}: {', '.join(names) or 'nothing'}" for what, names in use.items()]
    downloads: dict[str, list[str]] = {}
    for item in inventories:
        for hint in item.download:
            downloads.setdefault(hint, []).append(item.track)
    lines.extend(f"to download for {', '.join(names)}: {hint}" for hint, names in downloads.items())
    return lines


def _inspect_track(track: Track, root: Path, depth: Depth, num_workers: int, show: Show) -> TrackInventory:
    problems = _Problems()
    protocol = problems.attempt(lambda: track.protocol(root))
    if not problems.are_absences:
        with suppress(FileNotFoundError, ValueError):  # with wrong counts only, the rest can still be told
            protocol = track.protocol(root, is_checked=False)
    audio, can_name, num_listed = AudioInventory(), False, len(problems.lines)
    if protocol is not None:
        problems.attempt(partial(check_names, protocol.source, protocol.names.tolist()))
        can_name = len(problems.lines) == num_listed
        inspect = partial(inspect_recordings, track, protocol, root, depth, num_workers, show)
        audio = problems.attempt(inspect) or AudioInventory(missing=len(protocol))
    problems.lines += [f"track {track.name}: {line}" for line in audio.problems()]
    num_found = len(problems.lines)
    # Where there is no list either, it was told that there is neither.
    keyed = problems.attempt(lambda: track.key(root), tells_absence=protocol is not None)
    key = None if keyed is None else _inspect_key(track, keyed, protocol or keyed, problems.lines)
    asv = problems.attempt(lambda: _read_asv(track, root))
    needed = {
        "audio": protocol is None or audio.missing or audio.unreadable,
        "key": key is None or len(problems.lines) > num_found,
    }
    has_audio = audio.present > 0 and not (audio.missing or audio.unreadable)
    earned = track.metrics if key is not None and key.holds_subset else ()
    return TrackInventory(
        track=track.name,
        title=track.title,
        corpus=track.corpus,
        protocol=None if protocol is None else str(protocol.source),
        trials=0 if protocol is None else len(protocol),
        audio=audio,
        key=key,
        asv_trials=None if asv is None else asv.counts(),
        problems=tuple(problems.lines),
        can_train=has_audio and key is not None and all(key.counts[label.name.lower()] for label in Label),
        can_score=has_audio and can_name,
        metrics=tuple(metric for metric in earned if asv is not None or "tdcf" not in metric),
        download=track.downloads([part for part in DOWNLOAD_PARTS if needed[part]]),
        is_absent=protocol is None and key is None and problems.are_absences,
    )


def _read_asv(track: Track, root: Path) -> AsvScores | None:
    asv, search = track.asv_scores(root), track.asv_scores_search
    if asv is None and search is not None:
        raise NotThereError(f"track {track.name}: no ASV scores: {search.describe(root)}", ())
    return asv


def _inspect_key(track: Track, key: Protocol, protocol: Protocol, problems: list[str]) -> KeyInventory:
    keyed, listed = set(key.names), set(protocol.names)
    unkeyed, unlisted = len(listed - keyed), len(keyed - listed)
    if unkeyed or unlisted:
        problems.append(
            f"{key.source}: {unkeyed} trials of the protocol are not in the key, and {unlisted} of the key not "
            "in the protocol"
        )
    subsets = Counter(key.fields["subset"].tolist()) if "subset" in key.fields else Counter()
    holds_subset = not subsets or track.default_subset in (*subsets, ALL_SUBSETS)
    if not holds_subset:
        found = " or ".join(sorted(subsets))
        problems.append(
            f"{key.source}: found no trial of subset {track.default_subset}, over which the figures of track "
            f"{track.name} are computed; what is there can be evaluated by subset={found}"
        )
    return KeyInventory(str(key.source), key.counts(), dict(subsets), unkeyed, unlisted, holds_subset)
