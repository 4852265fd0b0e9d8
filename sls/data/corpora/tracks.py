"""The tracks file: where each corpus lies, how its files are read, and which metrics a track earns."""

from collections.abc import Mapping
from pathlib import Path

from sls.config import PROJECT_ROOT
from sls.data.corpora.locations import AudioSearch, FileSearch
from sls.data.corpora.published_counts import parse_counts
from sls.data.corpora.track import DOWNLOAD_PARTS, Track
from sls.data.corpora.track_schema import Entry, parse_format, read_yaml_entry
from sls.data.tables.formats import TableFormat
from sls.data.tables.protocols import ALL_SUBSETS

BUILT_IN_TRACKS = PROJECT_ROOT / "configs" / "tracks.yaml"
METRICS = ("eer", "min_tdcf", "min_tdcf_legacy", "min_dcf", "act_dcf", "cllr")
"""What a track may earn. `min_tdcf` is the revised form of 2021, `min_tdcf_legacy` that of 2019."""


def load_tracks(path: str | Path | None = None) -> Mapping[str, Track]:
    """Reads the tracks of a file, by default the built-in one, whose formats another one may use by their names.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: an unknown name or a wrong value; the error names the file and the entry.
    """
    document = read_yaml_entry(path or BUILT_IN_TRACKS)
    document.check_names(["formats", "tracks", "places"])
    formats = load_formats(path)
    tracks = document.entry("tracks")
    if tracks is None or not tracks.values:
        raise ValueError(f"{document.where}: found no tracks, expected one at least")
    return {name: _parse_track(name, entry, formats) for name, entry in tracks.entries().items()}


def load_formats(path: str | Path | None = None) -> Mapping[str, TableFormat]:
    """Reads the formats of the built-in tracks file and, before them, those of another; errors as `load_tracks`."""
    built_in = _parse_formats(read_yaml_entry(BUILT_IN_TRACKS))
    if not path or Path(path) == BUILT_IN_TRACKS:
        return built_in
    own = _parse_formats(read_yaml_entry(path))
    return {**own, **{name: item for name, item in built_in.items() if name not in own}}


def _parse_formats(document: Entry) -> dict[str, TableFormat]:
    formats = document.entry("formats")
    entries = {} if formats is None else formats.entries()
    return {name: parse_format(name, entry) for name, entry in entries.items()}


_TRACK_NAMES = (
    *("title", "corpus", "metrics", "evaluated", "subset", "breakdown", "counts", "download", "folders"),
    *("protocol", "key", "speakers", "audio", "asv_scores", "asv_metadata"),
)


_NEEDED_COLUMNS = {
    "protocol": ("trial",),
    "key": ("trial",),
    "speakers": ("trial", "speaker"),
    "asv_scores": ("score",),
    "asv_metadata": ("role",),
}


def _parse_track(name: str, entry: Entry, formats: Mapping[str, TableFormat]) -> Track:
    entry.check_names(_TRACK_NAMES)
    folders = entry.texts("folders", (".",))
    searches = {what: _parse_search(what, entry, folders, formats) for what in _NEEDED_COLUMNS}
    if searches["protocol"] is None and searches["key"] is None:
        raise ValueError(f"{entry.where}: found neither protocol nor key, expected one of them")
    return Track(
        name=name,
        title=entry.text("title", name),
        corpus=entry.text("corpus", name),
        metrics=entry.choices("metrics", METRICS, ("eer",)),
        is_by_name=entry.choices("evaluated", ("always", "by_name"), ("always",)) == ("by_name",),
        default_subset=entry.text("subset", ALL_SUBSETS),
        breakdown=entry.texts("breakdown", ()),
        counts=parse_counts(entry.entry("counts") or Entry(entry.where, {})),
        download=_parse_download(entry),
        protocol_search=searches["protocol"],
        key_search=searches["key"],
        speakers_search=searches["speakers"],
        audio_search=_parse_audio(entry, folders),
        asv_scores_search=searches["asv_scores"],
        asv_metadata_search=searches["asv_metadata"],
    )


def _parse_search(
    what: str, track: Entry, track_folders: tuple[str, ...], formats: Mapping[str, TableFormat]
) -> FileSearch | None:
    entry = track.entry(what)
    if entry is None:
        return None
    entry.check_names(["folders", "files", "formats", "named_formats"])
    names, named = entry.choices("formats", formats), entry.choices("named_formats", formats, ())
    for name in names + named:
        for column in _NEEDED_COLUMNS[what]:
            if column not in formats[name].columns:
                raise ValueError(f"{entry.where}.formats: found {name} without column {column}, expected one")
    return FileSearch(
        what.replace("_", " ").replace("asv", "ASV"),
        entry.texts("folders", track_folders),
        entry.texts("files"),
        tuple(formats[name] for name in names),
        tuple(formats[name] for name in named),
    )


def _parse_download(track: Entry) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(track.values.get("download"), dict):
        return dict.fromkeys(DOWNLOAD_PARTS, track.texts("download", ()))
    entry = track.entry("download")
    assert entry is not None
    entry.check_names(DOWNLOAD_PARTS)
    return {part: entry.texts(part, ()) for part in DOWNLOAD_PARTS}


def _parse_audio(track: Entry, track_folders: tuple[str, ...]) -> AudioSearch:
    entry = track.entry("audio")
    if entry is None:
        raise ValueError(f"{track.where}: found no audio, expected its folders")
    entry.check_names(["folders", "extensions"])
    folders = entry.texts("folders", (".",))
    return AudioSearch(
        tuple(f"{root}/{folder}" if root != "." else folder for root in track_folders for folder in folders),
        entry.texts("extensions", (".flac",)),
    )
