"""What is scored: the trials of a track, or of any protocol or directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sls.data.corpora.corpus import Corpus
from sls.data.loading.free_trials import find_trials, list_recordings, read_any_protocol
from sls.data.tables.protocols import Protocol, Trial


@dataclass(frozen=True)
class TrialList:
    """What is scored: trials, where they come from, and what to call them."""

    name: str
    """The track's name, or that of the protocol."""
    corpus: str
    trials: list[Trial]
    protocol: Protocol | None
    """The file that lists them, or None for a directory of audio."""


def track_trials(corpus: Corpus, name: str, *, require_audio: bool = True) -> TrialList:
    """Finds the trials of a track.

    Args:
        corpus: where it lies.
        name: the track.
        require_audio: raise where a recording is missing; otherwise it is a failure of the scoring run.

    Raises:
        FileNotFoundError: the protocol or a recording is missing.
        ValueError: there is no such track, or its protocol is malformed.
    """
    track = corpus.track(name)
    trials = track.trials(corpus.data_root, require_audio=require_audio)
    return TrialList(name, corpus.name, trials, track.protocol(corpus.data_root))


def listed_trials(
    protocol: Path | None, audio_dir: Path, tracks: str = "", *, require_audio: bool = True
) -> TrialList:
    """Finds the trials of any protocol and audio directory, or, without a protocol, all recordings in it.

    Raises:
        FileNotFoundError: the protocol, the directory or a recording is missing.
        ValueError: the protocol is malformed.
    """
    # "." and ".." name nothing, and the root has no name at all.
    place = (audio_dir if audio_dir.name.strip(".") else audio_dir.resolve()).name or "recordings"
    if protocol is None:
        return TrialList(place, place, list_recordings(audio_dir), None)
    listed = read_any_protocol(protocol, tracks or None)
    trials = find_trials(listed, audio_dir, require_audio=require_audio)
    return TrialList(protocol.stem, place, trials, listed)
