"""What an experiment ends with: how to look at it, and how to serve its winner."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.table import Table

from entrypoints import experiment_tables
from sls.data.corpora.corpus import SYNTHETIC_NOTE
from sls.tracking.registry.epoch_choice import TrainedModel
from sls.tracking.registry.versions import RegisteredVersion
from sls.tracking.training.study import TrainedSeed

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
    monkeypatch.setattr(experiment_tables, "find_champion", lambda client: champion)
    text = experiment_tables.next_commands(SimpleNamespace(tracking_uri=tracking_uri), LINK)
    assert text.splitlines() == ["", *lines]


def cells(table: Table) -> list[tuple[str, ...]]:
    return list(zip(*(column.cells for column in table.columns), strict=True))


def test_recipes_are_told_by_mean_and_standard_deviation_where_there_are_several_seeds() -> None:
    versions = [RegisteredVersion("3", "v1", "2", "uri"), RegisteredVersion("4", "v2", "0", "uri")]
    of_v1 = [{"LA/eer_percent": value, "LA/min_tdcf": 0.25} for value in (3.0, 4.0, 5.0)]
    of_v1[1]["dev/eer_percent"] = 1.5  # of the seed that is registered
    metrics = {"v1": of_v1, "v2": of_v1[:1]}
    table = experiment_tables.recipe_table("demo", ["dev", "LA"], versions, metrics, "4")
    assert cells(table) == [
        ("v1", "3", "2", "1.50", "4.00 ± 1.00", "0.2500 ± 0.0000"),
        ("v2 (champion)", "4", "0", "", "3.00", "0.2500"),
    ]
    assert "3 seeds" in str(table.caption)
    single = dict.fromkeys(metrics, of_v1[:1])
    assert experiment_tables.recipe_table("demo", ["LA"], versions, single, "4").caption == SYNTHETIC_NOTE


def test_seeds_of_a_study_are_told_with_their_mean_and_the_best_is_marked() -> None:
    trained = [
        TrainedSeed(
            seed, TrainedModel("r", (epoch,), "rule"), "val/loss", {"val/loss": loss, "val/eer_percent": 5.0}
        )
        for seed, epoch, loss in (("1234", 3, 0.5), ("1", 2, 0.25))
    ]
    assert cells(experiment_tables.seeds_table("v2", "mine", trained, trained[1])) == [
        ("1234", "3", "0.500000", "5.00"),
        ("1 (best)", "2", "0.250000", "5.00"),
        ("all", "", "0.375000 ± 0.176777", "5.00 ± 0.00"),
    ]


def test_no_number_of_a_table_is_cut_where_a_terminal_is_narrow() -> None:
    names = ("dev", "LA", "DF", "In-the-Wild", "ASVspoof2019-LA", "ASVspoof5")
    figures = {f"{track}/eer_percent": 12.34 for track in names} | {"LA/min_tdcf": 0.2345}
    versions = [RegisteredVersion("3", "v1", "2", "uri"), RegisteredVersion("4", "v2", "0", "uri")]
    for num_seeds in (1, 5):
        metrics = dict.fromkeys(("v1", "v2"), [figures] * num_seeds)
        table = experiment_tables.recipe_table("demo", names, versions, metrics, "3")
        for width in (60, 80, 120):
            console = Console(width=width, file=io.StringIO())
            console.print(table)
            text = console.file.getvalue()
            assert max(map(len, text.splitlines())) <= width
            assert "…" not in text
            assert text.count("12.34") == len(names) * len(versions)
            assert SYNTHETIC_NOTE.split(":")[0] in text
