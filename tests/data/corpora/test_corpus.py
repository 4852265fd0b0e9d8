"""What a data root is called, by which runs are grouped and figures marked as synthetic."""

import os
from pathlib import Path

import pytest

from sls.config import DataConfig
from sls.data.corpora.corpus import PUBLISHED_CORPORA, open_corpus
from sls.data.corpora.tracks import BUILT_IN_TRACKS

OWN = "tracks: {Mine: {protocol: {files: list.txt, formats: trial-list}, audio: {}}}\n"


def name_of(data_root: Path, tracks: str | Path) -> str:
    return open_corpus(DataConfig(data_root=str(data_root), tracks=str(tracks))).name


def test_the_built_in_tracks_file_is_the_same_by_whatever_path(tmp_path, monkeypatch):
    monkeypatch.chdir(BUILT_IN_TRACKS.parents[1])
    for tracks in ("", BUILT_IN_TRACKS, "configs/tracks.yaml", os.path.relpath(BUILT_IN_TRACKS)):
        assert name_of(tmp_path, tracks) == PUBLISHED_CORPORA
    (tmp_path / "link.yaml").symlink_to(BUILT_IN_TRACKS)
    assert name_of(tmp_path, tmp_path / "link.yaml") == PUBLISHED_CORPORA


def test_a_tracks_file_of_ones_own_names_the_corpus(tmp_path):
    path = tmp_path / "clips.tracks.yaml"
    path.write_text(OWN)
    assert name_of(tmp_path, path) == "clips"


def test_a_tracks_file_of_ones_own_is_not_called_as_the_synthetic_corpus(tmp_path):
    path = tmp_path / "demo.tracks.yaml"
    path.write_text(OWN)
    with pytest.raises(ValueError, match=r"^tracks: found .*demo\.tracks\.yaml, expected"):
        name_of(tmp_path, path)
    (tmp_path / "CORPUS.yaml").write_text("corpus: clips\n")
    assert name_of(tmp_path, path) == "clips"
