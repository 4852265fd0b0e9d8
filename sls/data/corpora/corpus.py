"""The corpus of an experiment: a data_root, and the tracks file that says how to read it."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sls.config import WORK_ROOT, DataConfig
from sls.data.corpora.published_counts import CORPUS_NOTE, find_corpus_note, read_corpus_note
from sls.data.corpora.track import Track
from sls.data.corpora.tracks import BUILT_IN_TRACKS, load_tracks
from sls.data.demo_corpus import make_demo_corpus
from sls.files import looked_in
from sls.quotation import did_you_mean, quote

logger = logging.getLogger(__name__)

PUBLISHED_CORPORA = "asvspoof"
"""Name of a data root with the corpora that the built-in tracks file describes."""
DEMO_CORPUS = "demo"
SYNTHETIC_NOTE = "synthetic corpus: these figures say nothing about real deepfakes"
DEMO_DIRECTORY = WORK_ROOT / "outputs" / "demo_corpus"


@dataclass(frozen=True)
class Corpus:
    """A directory of corpora and the tracks in it."""

    name: str
    """`demo` for the synthetic corpus, else what the data root or the tracks file calls it."""
    data_root: Path
    tracks: Mapping[str, Track]

    def track(self, name: str, parameter: str = "track") -> Track:
        """Returns a track by the name that a parameter gave; raises ValueError with those that there are."""
        return _find_track(self.tracks, name, parameter)


def open_corpus(data: DataConfig, key: str = "", wanted: Iterable[str] = ()) -> Corpus:
    """Finds the corpus that a configuration names; without a data_root, makes the synthetic demo corpus.

    Args:
        data: Where the corpora lie, and how they are read.
        key: The key, or its directory, that a user named: without a data_root, what is evaluated against it
            is no demo corpus, unless the key is that of one.
        wanted: Names of tracks that it must have; one that it has not is refused before a demo corpus is made.

    Raises:
        FileNotFoundError: the data_root or the tracks file does not exist.
        ValueError: the tracks file is not as it should be, or its name would be that of the demo corpus; or it has
            no track of a wanted name.
    """
    tracks_file = Path(data.tracks) if data.tracks else BUILT_IN_TRACKS
    tracks = load_tracks(tracks_file)
    for name in wanted:
        _find_track(tracks, name)
    if not data.data_root and not key:
        logger.warning("no data_root: using the demo corpus, %s", SYNTHETIC_NOTE)
        return Corpus(DEMO_CORPUS, make_demo_corpus(DEMO_DIRECTORY), tracks)
    root = Path(data.data_root) if data.data_root else _directory_of(Path(key))
    if not root.is_dir():
        raise FileNotFoundError(
            f"data_root: no directory {data.data_root}{looked_in(data.data_root)}; "
            "expected the directory under which the corpora lie"
        )
    note = read_corpus_note(root) if data.data_root else find_corpus_note(root / CORPUS_NOTE)
    if note is not None:
        return Corpus(note.corpus, root, tracks)
    return Corpus(_name_after(tracks_file), root, tracks)


def _is_built_in(tracks_file: str | Path) -> bool:
    """Whether a tracks file, or an empty name, is the one of the published corpora."""
    return not str(tracks_file) or Path(tracks_file).samefile(BUILT_IN_TRACKS)


def _find_track(tracks: Mapping[str, Track], name: str, parameter: str = "track") -> Track:
    if name in tracks:
        return tracks[name]
    hint = did_you_mean(name, tracks, cutoff=0.5)
    found = quote(name) if name else "nothing"
    raise ValueError(f"{parameter}: found {found}, expected one of {', '.join(tracks)}{hint}")


def _name_after(tracks_file: Path) -> str:
    if _is_built_in(tracks_file):
        return PUBLISHED_CORPORA
    name = tracks_file.stem.split(".")[0]
    if name == DEMO_CORPUS:
        raise ValueError(
            f"tracks: found {tracks_file}, expected another name: figures of {DEMO_CORPUS} are marked as synthetic"
        )
    return name


def _directory_of(key: Path) -> Path:
    if not key.exists():
        raise FileNotFoundError(f"key: no file or directory {key}{looked_in(key)}")
    return key if key.is_dir() else key.parent
