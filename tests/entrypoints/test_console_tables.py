"""What an experiment ends with: how to look at it, and how to serve its winner."""

from types import SimpleNamespace

import pytest

from entrypoints import console_tables

LINK = "http://127.0.0.1:5000/#/compare"
SERVE = "Serve the champion:  mlflow models serve -m models:/xlsr-sls@champion --env-manager local -p 5001"


@pytest.mark.parametrize(
    ("tracking_uri", "champion", "lines"),
    [
        ("sqlite:///mlflow.db", "2", [f"Compare the recipes: make ui, then {LINK}", SERVE]),
        ("sqlite:///mlflow.db", "", [f"Compare the recipes: make ui, then {LINK}"]),
        ("http://127.0.0.1:5000", "2", [f"Compare the recipes: {LINK}", SERVE]),
    ],
)
def test_the_last_lines_say_how_to_look_and_where_there_is_a_winner_how_to_serve_it(
    monkeypatch: pytest.MonkeyPatch, tracking_uri: str, champion: str, lines: list[str]
) -> None:
    monkeypatch.setattr(console_tables, "find_champion", lambda client: champion)
    text = console_tables.next_commands(SimpleNamespace(tracking_uri=tracking_uri), LINK)
    assert text.splitlines() == ["", *lines]
