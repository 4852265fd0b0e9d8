"""Where the files of a corpus may lie under a data root, and which of the places hold them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sls.data.tables.formats import TableFormat, describe_misfit, match_format
from sls.data.tables.protocols import Protocol, Trial
from sls.quotation import count_of


@dataclass(frozen=True)
class FileSearch:
    """A text file that may lie in several places."""

    what: str
    """What it is, for errors: `protocol`, `key`, ..."""
    folders: tuple[str, ...]
    """Folders relative to the data root, the likeliest first; `*` stands for any name."""
    files: tuple[str, ...]
    """Names, or paths, within such a folder."""
    formats: tuple[TableFormat, ...]
    """The forms that it may have."""
    named_formats: tuple[TableFormat, ...] = ()
    """Forms that it may have as well where the user names the file."""

    def find(self, root: Path) -> Path | None:
        """Returns the first file that has one of the forms; raises ValueError where only others are there."""
        folders = expand_folders(root, self.folders)
        paths = [folder / name for folder in folders for name in self.files if (folder / name).is_file()]
        found = next((path for path in paths if match_format(path, self.formats) is not None), None)
        if found is None and paths:
            hint = ""
            if match_format(paths[0], self.named_formats) is not None:
                hint = f"; if it is the {self.what}, name the file: {self.what}={paths[0]}"
            raise ValueError(describe_misfit(paths[0], self.formats) + hint)
        return found

    def find_under(self, root: str | Path) -> Path | None:
        """Looks under a data root, and nowhere else: where none is given, nowhere at all."""
        return self.find(Path(root)) if root and Path(root).is_dir() else None

    def find_near(self, place: str | Path | None, within: Path | None = None) -> Path | None:
        """Looks above a place that the user named if it is, or lies in, one part of a key (CM or ASV), and under it.

        Nothing above `within` is looked at, where that is given.
        """
        if not place:
            return None
        path = Path(place)
        above = [parent.parent for parent in (path, path.parent) if parent.name in ("ASV", "CM")]
        reachable = (root for root in above if within is None or root.is_relative_to(within))
        # From above first: ASV holds metadata of the same name as the key, which are none.
        return next((found for root in (*reachable, path) if (found := self.find_under(root))), None)

    def describe(self, root: Path) -> str:
        """Says where one looks, for an error."""
        return f"looked under {root} for {' or '.join(self.files)} in {', '.join(self.folders)}"


@dataclass(frozen=True)
class AudioSearch:
    """The folders that hold the recordings of a corpus; several may, each a part of them."""

    folders: tuple[str, ...]
    """Folders relative to the data root; `*` stands for any name. All that exist are used."""
    extensions: tuple[str, ...]
    """What follows a trial's name in the name of its file: `.flac`, or nothing."""

    def find(self, root: Path) -> tuple[Path, ...]:
        """Returns every folder that exists, once also where links lead to it; raises FileNotFoundError for none."""
        found: dict[Path, Path] = {}
        for folder in expand_folders(root, self.folders):
            found.setdefault(folder.resolve(), folder)
        if not found:
            raise FileNotFoundError(f"no audio folder: looked under {root} for {', '.join(self.folders)}")
        return tuple(found.values())

    def locate(self, protocol: Protocol, root: Path) -> LocatedAudio:
        """Finds, as `find` does, the recordings of trials, by their column `path` or else by their names."""
        names = protocol.fields.get("path", protocol.names)
        return locate_audio(names.tolist(), self.find(root), self.extensions)


@dataclass(frozen=True)
class LocatedAudio:
    """The recordings of some trials."""

    paths: list[Path]
    """The file of each trial; of a missing one, the path at which it was expected."""
    missing: list[Path]
    """The expected paths of the files that are not there."""
    extra: list[str]
    """Recordings in the folders that belong to none of the trials, sorted."""
    folders: tuple[Path, ...]

    def check_complete(self) -> None:
        """Raises FileNotFoundError, with a count and an example, where recordings are missing."""
        if self.missing:
            folders = ", ".join(map(str, self.folders))
            raise FileNotFoundError(
                f"{len(self.missing)} of {count_of(len(self.paths), 'recording')} not found, the first "
                f"{self.missing[0].name} "
                f"(looked in {folders})"
            )


def locate_audio(names: Sequence[str], folders: Sequence[Path], extensions: Sequence[str]) -> LocatedAudio:
    """Finds the recording of each trial, listing each folder once instead of asking for each file.

    Args:
        names: Names of the trials, or paths relative to the folders.
        folders: Where to look; the first folder that holds a file counts.
        extensions: What may follow a name; the first that gives a file counts, also in other letters (`.WAV`).
    """
    listing: dict[str, Path] = {}
    for parent in sorted({name.rpartition("/")[0] for name in names if "/" in name} | {""}):
        for folder in folders:
            for name in _list_files(folder / parent):
                listing.setdefault(f"{parent}/{name}" if parent else name, folder)
    capitals = {low: name for name in listing if (low := _lower_ending(name)) != name and low not in listing}
    paths: list[Path] = []
    missing: list[Path] = []
    used: set[str] = set()
    for name in names:
        file_name = next((name + ending for ending in extensions if name + ending in listing), None)
        if file_name is None:
            lower = [_lower_ending(name + ending) for ending in extensions]
            file_name = next(
                (capitals.get(low, low) for low in lower if low in listing or low in capitals), None
            )
        if file_name is None:
            missing.append(folders[0] / (name + extensions[0]))
            paths.append(missing[-1])
        else:
            used.add(file_name)
            paths.append(listing[file_name] / file_name)
    endings = _recording_endings(extensions, used)
    extra = sorted(name for name in listing if _lower_ending(name).endswith(endings) and name not in used)
    return LocatedAudio(paths, missing, extra, tuple(folders))


def list_trials(protocol: Protocol, audio: LocatedAudio) -> list[Trial]:
    """Pairs the trials of a protocol with their recordings."""
    labels = [None] * len(protocol) if protocol.labels is None else protocol.labels.tolist()
    return [
        Trial(name, path, label)
        for name, path, label in zip(protocol.names.tolist(), audio.paths, labels, strict=True)
    ]


def _recording_endings(extensions: Sequence[str], names: Collection[str]) -> tuple[str, ...]:
    """Returns the endings of recordings; where names bring their own, those of the names."""
    if all(extensions):
        return tuple(extensions)
    return tuple({Path(name).suffix.lower() for name in names} | {ending for ending in extensions if ending})


def expand_folders(root: Path, folders: Sequence[str]) -> Iterator[Path]:
    """Yields the folders that exist under a root, `*` replaced by what is there."""
    for folder in folders:
        matches = sorted(root.glob(folder)) if "*" in folder else [root / folder]
        yield from (match for match in matches if match.is_dir())


def _list_files(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if not (entry.is_dir() or entry.name.startswith("._"))]


def _lower_ending(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return stem + dot + ending.lower()
