"""YAML as all files of settings are read: strictly, and refused in one line."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from sls.config import PROJECT_ROOT
from sls.config_file import read_config_values
from sls.data.corpora.published_counts import read_corpus_note
from sls.data.corpora.tracks import load_tracks
from sls.data.demo_corpus.build import read_origin


@pytest.mark.parametrize(
    ("name", "text", "read", "line", "key"),
    [
        ("v3.yaml", "lr: 1\nseed: 2\nlr: 3\n", read_config_values, 3, "lr"),
        ("v3.yaml", 'lr: 1\n"lr": 3\n', read_config_values, 2, "lr"),
        ("my.tracks.yaml", "tracks:\n  A: {title: a}\n  B: {title: b, title: c}\n", load_tracks, 3, "title"),
        ("my.tracks.yaml", "places: [{&a b: 1, *a : 2}]\ntracks: {}\n", load_tracks, 1, "b"),
        ("CORPUS.yaml", "corpus: a\ncorpus: b\n", lambda path: read_corpus_note(path.parent), 2, "corpus"),
        ("DEMO.yaml", "seed: 1\nscale: 1\nseed: 2\n", lambda path: read_origin(path.parent), 3, "seed"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_line(
    tmp_path: Path, name: str, text: str, read: Callable[[Path], object], line: int, key: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(
        ValueError, match=f"^{re.escape(str(path))}:{line}: .*'{key}'.*first in line"
    ) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_what_is_merged_or_named_by_an_anchor_is_no_second_key(tmp_path: Path) -> None:
    path = tmp_path / "v3.yaml"
    path.write_text("lr: &rate 1\nhead_lr: *rate\n<<: {seed: 1}\nseed: 3\n")
    assert read_config_values(path) == {"lr": 1, "head_lr": 1, "seed": 3}


@pytest.mark.parametrize("text", ["lr: [\n", "lr: 2021-02-30\n", "lr: !!python/name:os.system\n"])
def test_what_is_not_yaml_is_said_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "v3.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: ") as caught:
        read_config_values(path)
    assert "\n" not in str(caught.value)


def test_one_module_reads_yaml() -> None:
    readers = [
        path.name
        for folder in ("sls", "entrypoints")
        for path in (PROJECT_ROOT / folder).rglob("*.py")
        if re.search(r"\byaml\.\w*load", path.read_text(encoding="utf-8"))
    ]
    assert readers == [], "sls.yaml_file.read_yaml is to be used"


BOMB = "a: &a [1, 2]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghi")
)
MERGED = "a: &a {x: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}\n" for a, b in pairwise("abcdefghi")
)


@pytest.mark.parametrize(
    "text",
    [
        "lr: " + "[" * 30_000 + "]" * 30_000,
        "lr: " + "{a: " * 30_000 + "}" * 30_000,
        "".join(" " * depth + "a:\n" for depth in range(2_000)),
        "- " * 5_000 + "1",
        "lr: 1" + ":1" * 300_000,  # a number to base 60
        "\n".join(
            f"{number * (2**61 - 1)}: 1" for number in range(50_000)
        ),  # all at one place of a dictionary
        BOMB,
        MERGED,
        "a: &a [*a]",
        "a: &a {<<: *a}",
        "lr: !!timestamp x",
        "lr: !!int ''",
        "lr: !!bool x",
        "[1]: 2\n? {a: b}\n: 1",
    ],
    ids=lambda text: text[:12],
)
def test_what_would_end_a_reader_or_fill_the_memory_is_refused_with_the_file(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "v3.yaml"
    path.write_text(text)
    for read in (read_config_values, load_tracks):
        with pytest.raises(ValueError, match=r"v3\.yaml: ") as caught:
            read(path)
        assert "\n" not in str(caught.value)
