"""A track: one list of trials of one corpus, with its key, its recordings and its ASV scores."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sls.data.corpora.locations import AudioSearch, FileSearch, LocatedAudio, list_trials
from sls.data.corpora.published_counts import Counts, check_asv_counts, check_counts, find_corpus_note
from sls.data.tables.asv_scores import AsvScores, brings_roles, read_asv_scores
from sls.data.tables.protocols import ALL_SUBSETS, Label, Protocol, Trial, read_protocol
from sls.files import looked_in

DOWNLOAD_PARTS = ("audio", "key")
"""What comes in downloads of its own: recordings with their list, and labels with ASV scores."""


class NotThereError(FileNotFoundError):
    """Something of a track that lies nowhere under the data root."""

    def __init__(self, message: str, download: Sequence[str]) -> None:
        """Adds what to download to a message; `reason` is the message alone."""
        super().__init__(f"{message}; download: {', '.join(download)}" if download else message)
        self.reason = message


@dataclass(frozen=True)
class Track:
    """One list of trials of one corpus."""

    name: str
    title: str
    corpus: str
    metrics: tuple[str, ...]
    is_by_name: bool
    """Whether it is evaluated only where it is named."""
    default_subset: str
    """The subset over which the published figures are computed, or `all`."""
    breakdown: tuple[str, ...]
    """Columns of the key by which results are broken down."""
    counts: Counts
    """Published numbers of trials, by subset."""
    download: Mapping[str, tuple[str, ...]]
    """What to download, and from where, by `DOWNLOAD_PARTS`."""
    protocol_search: FileSearch | None
    """The list of trials; None where the key is the list."""
    key_search: FileSearch | None
    """The key; None where the protocol holds the labels."""
    speakers_search: FileSearch | None
    """A list of trials with their speakers, for a key that does not name them."""
    audio_search: AudioSearch
    asv_scores_search: FileSearch | None
    asv_metadata_search: FileSearch | None

    def protocol(self, data_root: str | Path, *, is_checked: bool = True) -> Protocol:
        """Reads the list of all trials of this track, with labels where the list has them.

        It is compared with the published counts, unless a corpus note lies above the file.

        Raises:
            FileNotFoundError: there is no such list; the error says where one looked.
            ValueError: the list is not as its form says, or the counts differ.
        """
        root = self._root(data_root)
        searches = [search for search in (self.protocol_search, self.key_search) if search is not None]
        for search in searches:
            path = search.find(root)
            if path is not None:
                return self._read(path, search, is_checked=is_checked, needs_labels=False)
        raise self._not_found(searches, root)

    def key(
        self, data_root: str | Path, key: str | Path | None = None, *, is_checked: bool = True
    ) -> Protocol:
        """Reads the labels of this track, and the speakers from where they are known.

        A key that is named is a file, or a directory that holds it in one of the usual places; without one it lies
        under the data root. Counts as of `protocol`.

        Raises:
            FileNotFoundError: there is no key; the error says where one looked.
            ValueError: the key is not as its form says, holds no labels, the counts differ, or the list of
                speakers disagrees with it.
        """
        search = self.key_search or self.protocol_search
        assert search is not None  # held by load_tracks
        if key and Path(key).is_file():
            path = Path(key)
            search = replace(search, formats=search.formats + search.named_formats)
        else:
            root = self._root(key or data_root)
            found = search.find_near(root) if key else search.find(root)
            if found is None:
                raise self._not_found([search], root)
            path = found
        protocol = self._read(path, search, is_checked=is_checked)
        if protocol.labels is None:
            raise ValueError(f"{path}: found a list without labels, expected the key of track {self.name}")
        return self._add_speakers(protocol, data_root)

    def asv_scores(
        self,
        data_root: str | Path,
        key: str | Path | None = None,
        asv_scores: str | Path | None = None,
        subset: str | None = None,
    ) -> AsvScores | None:
        """Reads the ASV scores of this track.

        Scores and metadata are looked for near a key that the user named first; `asv_scores` is a score file, or a
        directory that holds it. By default the trials are those of the track's own subset.

        Returns:
            The scores, or None where the track needs none, or where none are found and none were named.

        Raises:
            FileNotFoundError: `asv_scores` was named and holds none.
            ValueError: files that do not fit each other, their form or the published counts, or scores
                named for a track that has none.
        """
        search, roles_search = self.asv_scores_search, self.asv_metadata_search
        if search is None:
            if asv_scores:
                raise ValueError(
                    f"asv_scores: found {asv_scores}, expected none: track {self.name} has no asv_scores in its "
                    "tracks file"
                )
            return None
        named = Path(asv_scores) if asv_scores else None
        near = named if named is not None and named.is_file() else search.find_near(named or key)
        if near is None and named is not None:
            raise FileNotFoundError(f"track {self.name}: no ASV scores: {search.describe(named)}")
        scores = near or search.find_under(data_root)
        if scores is None:
            return None
        is_published = named is None  # those that a user named may be of a system of his own
        if roles_search is None:
            asv = read_asv_scores(scores)
        elif brings_roles(scores):
            asv, is_published = read_asv_scores(scores), False
        else:
            metadata = roles_search.find_near(scores.parent, None if near else Path(data_root))
            metadata = metadata or roles_search.find_near(key) or roles_search.find_under(data_root)
            if metadata is None:
                where = roles_search.describe(scores.parent)
                raise FileNotFoundError(f"track {self.name}: no ASV metadata for {scores}: {where}")
            asv = read_asv_scores(scores, search.formats, metadata, roles_search.formats)
        if is_published:
            check_asv_counts(asv, self._counts_of(asv.source))
        return asv.select_subset(self.default_subset if subset is None else subset)

    def trials(
        self,
        data_root: str | Path,
        subset: str | None = None,
        *,
        is_labelled: bool = False,
        require_audio: bool = True,
    ) -> list[Trial]:
        """Lists the trials with their recordings.

        Args:
            data_root: The directory under which the corpora lie.
            subset: Only the trials that the key puts in this subset; None or `all` for all of them.
            is_labelled: The trials are for training or validation, so labels of both classes are needed.
            require_audio: Raise where a recording is missing; otherwise it fails when it is read.

        Raises:
            FileNotFoundError: no list, key, or audio folder, or missing recordings.
            ValueError: files that are not as they should be, or labels of one class only.
        """
        wants_key = is_labelled or subset not in (None, ALL_SUBSETS)
        protocol = (self.key if wants_key else self.protocol)(data_root)
        protocol = protocol.select_subset(subset or ALL_SUBSETS)
        if is_labelled:
            self._check_both_classes(protocol)
        audio = self.locate(protocol, data_root)
        if require_audio:
            try:
                audio.check_complete()
            except FileNotFoundError as error:
                raise FileNotFoundError(f"track {self.name}: {error}") from None
        return list_trials(protocol, audio)

    def locate(self, protocol: Protocol, data_root: str | Path) -> LocatedAudio:
        """Finds the recordings of trials; raises FileNotFoundError where no audio folder exists."""
        try:
            return self.audio_search.locate(protocol, self._root(data_root))
        except FileNotFoundError as error:
            raise NotThereError(f"track {self.name}: {error}", self.download["audio"]) from None

    def _read(
        self, path: Path, search: FileSearch, *, is_checked: bool = True, needs_labels: bool = True
    ) -> Protocol:
        protocol = read_protocol(path, search.formats, needs_labels=needs_labels)
        if is_checked:
            check_counts(protocol, self._counts_of(path))
        return protocol

    def _add_speakers(self, key: Protocol, data_root: str | Path) -> Protocol:
        """Adds speakers to a key without them, where their list lies beside it or under the data root."""
        search = self.speakers_search
        if search is None or "speaker" in key.fields:
            return key
        path = search.find(key.source.parent) or search.find_under(data_root)
        return key if path is None else key.with_speakers(read_protocol(path, search.formats))

    def _counts_of(self, path: Path) -> Counts:
        """Returns the published counts, or those of the note above a file."""
        note = find_corpus_note(path)
        return self.counts if note is None else note.counts.get(self.name, {})

    def _check_both_classes(self, protocol: Protocol) -> None:
        counts = protocol.counts()
        for label in Label:
            if counts.get(label.name.lower(), 0) == 0:
                raise ValueError(
                    f"{protocol.source}: found no {label.name.lower()} trial among {len(protocol)}, expected "
                    f"both classes in track {self.name}"
                )

    def _root(self, data_root: str | Path) -> Path:
        root = Path(data_root)
        if not root.is_dir():
            raise FileNotFoundError(f"track {self.name}: no file or directory {root}{looked_in(root)}")
        return root

    def downloads(self, parts: Collection[str] = DOWNLOAD_PARTS) -> tuple[str, ...]:
        """Returns what to download for some of `DOWNLOAD_PARTS`, each hint once."""
        return tuple(dict.fromkeys(hint for part in parts for hint in self.download[part]))

    def _not_found(self, searches: list[FileSearch], root: Path) -> NotThereError:
        what = " or ".join(search.what for search in searches)
        where = "; ".join(search.describe(root) for search in searches)
        # A list of its own comes with the recordings.
        has_list = self.protocol_search in searches and self.key_search is not None
        parts = {"audio": has_list, "key": self.key_search in searches or not has_list}
        return NotThereError(
            f"track {self.name}: no {what}: {where}",
            self.downloads([part for part, is_meant in parts.items() if is_meant]),
        )
