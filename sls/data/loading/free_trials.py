"""Trials that belong to no track: those of any protocol, or all recordings of a directory."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from sls.data.corpora.locations import list_trials, locate_audio
from sls.data.corpora.tracks import load_formats
from sls.data.tables.protocols import Protocol, Trial, read_protocol
from sls.quotation import quote

AUDIO_EXTENSIONS = (".flac", ".wav", ".mp3", ".m4a", ".ogg", ".opus", ".aac", ".aiff", ".wma", ".webm")
"""What a recording may be called in a directory without a protocol."""
AUDIO_SUBFOLDERS = (".", "flac", "wav")

logger = logging.getLogger(__name__)


def read_any_protocol(path: str | Path, tracks: str | Path | None = None) -> Protocol:
    """Reads a protocol, a key or a list in whichever known form its first line has.

    Args:
        path: the file.
        tracks: a tracks file whose formats are known too.

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
    return read_protocol(path, formats)


def find_trials(protocol: Protocol, audio_dir: str | Path, *, require_audio: bool = True) -> list[Trial]:
    """Pairs the trials of a protocol with the recordings in a directory, or in its `flac` or `wav`.

    Args:
        protocol: the trials.
        audio_dir: the directory of their recordings, of any usual type.
        require_audio: raise where a recording is missing; otherwise it fails when it is read.

    Raises:
        FileNotFoundError: there is no such directory, or recordings are missing.
    """
    root = Path(audio_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"audio_dir: no directory {root} (looked in {Path.cwd()})")
    folders = [root / name for name in AUDIO_SUBFOLDERS if (root / name).is_dir()]
    names = protocol.fields.get("path", protocol.names)
    audio = locate_audio(names.tolist(), folders, ("", *AUDIO_EXTENSIONS))
    if require_audio:
        audio.check_complete()
    return list_trials(protocol, audio)


def list_recordings(audio_dir: str | Path) -> list[Trial]:
    """Lists every recording in a directory and below, sorted; a trial is named by its path in there.

    A link to a recording that is gone is listed too, and fails when it is read. Folders that are links are not
    entered, which the log says.

    Raises:
        FileNotFoundError: there is no such directory, or no recording in it.
        ValueError: a name has white space or is not UTF-8, which a score file cannot hold.
    """
    root = Path(audio_dir)
    if not root.is_dir():
        raise FileNotFoundError(f"audio_dir: no directory {root} (looked in {Path.cwd()})")
    found = sorted(root.rglob("*"))
    paths = [path for path in found if path.suffix.lower() in AUDIO_EXTENSIONS and not path.is_dir()]
    for path in found:
        if path.is_symlink() and path.is_dir():
            logger.warning("audio_dir: %s is a link to a folder; what is in there is left out", path)
    if not paths:
        expected = ", ".join(AUDIO_EXTENSIONS)
        raise FileNotFoundError(f"audio_dir: no recording in {root}, expected files named {expected}")
    trials = [Trial(path.relative_to(root).as_posix(), path) for path in paths]
    unfit = next((trial.name for trial in trials if len(trial.name.split()) != 1), None)
    if unfit is not None:
        raise ValueError(
            f"{root}: found a recording named {quote(unfit)}, expected a name without white space"
        )
    foreign = next((trial.name for trial in trials if not _is_utf8(trial.name)), None)
    if foreign is not None:
        raise ValueError(
            f"{root}: found a recording named {os.fsencode(foreign)!r}, expected a name in UTF-8"
        )
    return trials


def _is_utf8(name: str) -> bool:
    """Whether a name of a file system is text: bytes that are none come as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)
