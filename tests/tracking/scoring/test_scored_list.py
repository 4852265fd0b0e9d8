"""What a list of recordings is called."""

from pathlib import Path

import pytest

from sls.tracking.scoring.scored_list import listed_trials


@pytest.mark.parametrize("name", [".", "../calls", "../../audio/calls"])
def test_recordings_are_called_as_their_directory_wherever_the_user_stands(
    tmp_path, monkeypatch, name: str
) -> None:
    directory = tmp_path / "audio" / "calls"
    directory.mkdir(parents=True)
    (directory / "a.wav").touch()
    monkeypatch.chdir(directory)
    listed = listed_trials(None, Path(name))
    assert (listed.name, listed.corpus) == ("calls", "calls")
