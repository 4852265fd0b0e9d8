"""What is scored: the trials of a track, or of any protocol, or all recordings of a directory."""

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from sls.data.audio.frames import NotWholeError
from sls.data.audio.recording import AudioError, inspect_audio
from sls.data.corpora.corpus import Corpus
from sls.data.corpora.locations import AudioSearch, list_trials
from sls.data.corpora.tracks import load_formats
from sls.data.tables.protocols import Protocol, Trial, read_protocol
from sls.files import looked_in
from sls.quotation import count_of, quote

_ENDINGS = "flac wav mp3 m4a ogg oga opus aac aif aiff aifc wma webm mka au caf sph w64 rf64"
AUDIO_EXTENSIONS = tuple(f".{ending}" for ending in _ENDINGS.split())
"""What may follow a trial's name in that of its file; what is called so in a directory must be a recording."""
COMPANION_FOLDERS = frozenset({"__MACOSX", "@eaDir", ".AppleDouble", ".Trashes"})
"""What systems put beside recordings, with files that are called as these are."""
MAX_NAMED = 5
"""Files that are passed over, by name."""
AUDIO_SUBFOLDERS = (".", "flac", "wav")
_NO_TEXT = re.compile(r"[\ud800-\udfff]")  # as which bytes that are no text come in a name of a file

logger = logging.getLogger(__name__)


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
        corpus: Where it lies.
        name: The track.
        require_audio: Raise where a recording is missing; otherwise it is a failure of the scoring run.

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

    Args:
        protocol: Lists the trials, in any known form.
        audio_dir: The directory of their recordings, of any usual type, or one with them in its `flac` or `wav`.
        tracks: A tracks file whose formats are known too.
        require_audio: Raise where a recording is missing; otherwise it fails when it is read.

    Raises:
        FileNotFoundError: the protocol, the directory or a recording is missing.
        ValueError: the protocol is malformed.
    """
    if not audio_dir.is_dir():
        raise FileNotFoundError(f"audio_dir: no directory {audio_dir}{looked_in(audio_dir)}")
    # "." and ".." name nothing, and the root has no name at all.
    place = (audio_dir if audio_dir.name.strip(".") else audio_dir.resolve()).name or "recordings"
    if protocol is None:
        return TrialList(place, place, list_recordings(audio_dir), None)
    listed = read_any_protocol(protocol, tracks or None)
    audio = AudioSearch(AUDIO_SUBFOLDERS, ("", *AUDIO_EXTENSIONS)).locate(listed, audio_dir)
    if require_audio:
        audio.check_complete()
    return TrialList(protocol.stem, place, list_trials(listed, audio), listed)


def read_any_protocol(path: str | Path, tracks: str | Path | None = None) -> Protocol:
    """Reads a protocol, a key or a list in whichever known form its first line has.

    Args:
        path: The file.
        tracks: A tracks file whose formats are known too.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: no known form, or not what the form says.
    """
    formats = [
        item
        for item in load_formats(tracks).values()
        if "trial" in item.columns and not {"role", "score"} & set(item.columns)
    ]
    # Names in a first line say more than a number of columns, and two columns more than one.
    formats.sort(key=lambda item: (not item.header, -len(item.columns)))
    return read_protocol(path, formats, needs_labels=False)


def list_recordings(root: Path, parameter: str = "audio_dir") -> list[Trial]:
    """Lists every recording in a directory and below, sorted; a trial is named by its path in there.

    A file is one by its ending, or where it can be opened as one. A link to a recording that is gone is listed too,
    and fails when it is read. Folders that are links are not entered. The log names what is passed over.

    Args:
        root: The directory.
        parameter: By which parameter it was named, for the log and the error.

    Raises:
        FileNotFoundError: there is no recording in it.
        ValueError: a name is not UTF-8, which a score file cannot hold.
    """
    paths: list[Path] = []
    others: list[Path] = []
    for path in sorted(root.rglob("*")):
        if path.is_dir():
            if path.is_symlink():
                logger.warning("%s: %s is a link to a folder; what is in there is left out", parameter, path)
        else:
            (paths if _is_recording(path, root) else others).append(path)
    named = ", ".join(quote(str(path.relative_to(root))) for path in others[:MAX_NAMED])
    counted = count_of(len(others), "file that is no recording", "files that are no recordings")
    passed = f"{counted}: {named}{', ...' * (len(others) > MAX_NAMED)}"
    if not paths:
        raise FileNotFoundError(
            f"{parameter}: no recording in {root}" + (f", but {passed}" if others else "")
        )
    if others:
        logger.warning("%s: passed over %s", parameter, passed)
    trials = [Trial(path.relative_to(root).as_posix(), path) for path in paths]
    foreign = next((trial.name for trial in trials if _NO_TEXT.search(trial.name)), None)
    if foreign is not None:
        raise ValueError(
            f"{root}: found a recording named {os.fsencode(foreign)!r}, expected a name in UTF-8"
        )
    return trials


def _is_recording(path: Path, root: Path) -> bool:
    if path.name.startswith("._") or COMPANION_FOLDERS.intersection(path.parts[len(root.parts) :]):
        return False
    if path.suffix.lower() in AUDIO_EXTENSIONS:
        return True
    try:
        inspect_audio(path)
    except NotWholeError:
        return True  # which is said when it is read
    except (AudioError, FileNotFoundError):
        return False
    return True
