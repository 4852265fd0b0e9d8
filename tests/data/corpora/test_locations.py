from pathlib import Path

import pytest

from sls.data.corpora.locations import AudioSearch, FileSearch, expand_folders, locate_audio
from sls.data.tables.formats import TableFormat

PAIRS = TableFormat("pairs", ("trial", "label"))


def touch(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_the_first_folder_that_holds_a_fitting_file_counts(tmp_path):
    search = FileSearch("key", ("b", "a", "c*"), ("key.txt",), (PAIRS,))
    assert search.find(tmp_path) is None
    last = touch(tmp_path / "c1" / "key.txt", "x spoof\n")
    assert search.find(tmp_path) == last
    touch(tmp_path / "b" / "key.txt", "of another form\n")
    assert search.find(tmp_path) == last
    assert search.find(tmp_path) != touch(tmp_path / "d" / "key.txt", "x spoof\n")
    first = touch(tmp_path / "a" / "key.txt", "x spoof\n")
    assert search.find(tmp_path) == first


def test_a_file_of_another_form_alone_is_an_error(tmp_path):
    path = touch(tmp_path / "key.txt", "of another form\n")
    with pytest.raises(ValueError, match="found 3 columns .*, expected 2 columns") as caught:
        FileSearch("key", (".",), ("key.txt",), (PAIRS,)).find(tmp_path)
    assert str(caught.value).startswith(f"{path}:1:")


def test_every_audio_folder_counts_once_also_through_links(tmp_path):
    touch(tmp_path / "real" / "a.flac")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    touch(tmp_path / "part00" / "b.flac")
    touch(tmp_path / "part01" / "c.flac")
    found = AudioSearch(("link", "real", "part*", "none"), (".flac",)).find(tmp_path)
    assert [path.name for path in found] == ["link", "part00", "part01"]


def test_where_no_audio_folder_is_the_error_says_where_one_looked(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"audio.* x/flac, y\b"):
        AudioSearch(("x/flac", "y"), (".flac",)).find(tmp_path)


def test_stars_are_expanded_in_the_order_of_names(tmp_path):
    for name in ("p2", "p1", "q"):
        (tmp_path / name).mkdir()
    touch(tmp_path / "p3")  # not a folder
    assert [path.name for path in expand_folders(tmp_path, ("p*", "q"))] == ["p1", "p2", "q"]


def test_recordings_are_found_missed_and_counted(tmp_path):
    for name in ("a.flac", "b.wav", "other.flac", "notes.txt"):
        touch(tmp_path / "one" / name)
    touch(tmp_path / "two" / "c.flac")
    touch(tmp_path / "two" / "a.flac")
    folders = [tmp_path / "one", tmp_path / "two"]
    located = locate_audio(["a", "b", "c", "d"], folders, (".flac", ".wav"))
    assert located.paths == [
        tmp_path / "one" / "a.flac",
        tmp_path / "one" / "b.wav",
        tmp_path / "two" / "c.flac",
        tmp_path / "one" / "d.flac",
    ]
    assert located.missing == [tmp_path / "one" / "d.flac"]
    assert located.extra == ["other.flac"]  # other.flac; the second a.flac is the same trial
    with pytest.raises(FileNotFoundError, match=r"\b1 of 4 .*\bd\.flac"):
        located.check_complete()


def test_names_may_be_paths_with_their_ending(tmp_path):
    for name in ("x/1.wav", "y/1.wav", "y/2.wav"):
        touch(tmp_path / name)
    located = locate_audio(["x/1.wav", "y/1.wav"], [tmp_path], ("", ".flac"))
    assert located.paths == [tmp_path / "x" / "1.wav", tmp_path / "y" / "1.wav"]
    assert located.extra == ["y/2.wav"]
    located.check_complete()


@pytest.mark.parametrize("ending", [".FLAC", ".Flac", ".flac"])
@pytest.mark.parametrize("name", ["a.b", "a.b.FLAC", "a.b.flac"])
def test_an_ending_in_other_letters_is_found(tmp_path, name, ending):
    path = touch(tmp_path / f"a.b{ending}")
    located = locate_audio([name], [tmp_path], ("", ".flac"))
    assert located.paths == [path]
    assert located.missing == located.extra == []
    assert locate_audio(["A.b"], [tmp_path], ("", ".flac")).missing  # names are what they are


def test_the_letters_that_the_list_has_go_first_and_companions_are_no_recordings(tmp_path):
    exact = touch(tmp_path / "a.flac")
    touch(tmp_path / "a.FLAC")
    touch(tmp_path / "._b.flac")
    located = locate_audio(["a"], [tmp_path], (".flac",))
    assert located.paths == [exact]
    assert located.extra == ["a.FLAC"]
