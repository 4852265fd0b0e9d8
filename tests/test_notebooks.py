"""Notebooks are stored without outputs, and run."""

import json
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from click.testing import CliRunner
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from entrypoints.epochs import epochs
from entrypoints.evaluate import evaluate
from entrypoints.train import train
from sls.tracking.store import connect

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IN_THE_WILD = ROOT / "notebooks" / "in_the_wild_comparison.ipynb"
RUNS = ROOT / "notebooks" / "runs.ipynb"


def run_notebook(path: Path, expression: str = "None") -> tuple[str, Any]:
    """Executes a notebook from the project's root.

    Returns all text that it put out, and the value of an expression in its names at the end.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(
        nbformat.v4.new_code_cell(f"import json\nprint(json.dumps({expression}, default=str))")
    )
    resources = {"metadata": {"path": str(ROOT)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    value = json.loads("".join(output["text"] for output in notebook.cells.pop().outputs))
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = ("text/plain", "text/markdown")
    shown = [str(output.get("data", {}).get(kind, "")) for output in outputs for kind in kinds]
    return "\n".join([*shown, *(output.get("text", "") for output in outputs)]), value


def test_there_are_notebooks():
    assert {IN_THE_WILD, RUNS} <= set(NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs"), f"{path.name} holds outputs: clear them before storing it"
        assert cell.get("execution_count") is None


@pytest.mark.slow
def test_the_in_the_wild_notebook_reproduces_the_published_comparison(reference_dir, monkeypatch):
    monkeypatch.setenv("SLS_SCORES_DIR", str(reference_dir / "in_the_wild"))
    text, (found, published, num_trials) = run_notebook(
        IN_THE_WILD,
        '[{row["system"]: row["EER %"] for row in rows}, PUBLISHED_EER_PERCENT, len(systems["v1"].scores)]',
    )
    assert found == published == {"paper": 7.46, "v1": 7.84, "v2": 12.67}
    assert num_trials == 31_779
    assert "paper is better than v1 on In-the-Wild" in text


@pytest.mark.slow
def test_the_in_the_wild_notebook_runs_on_any_score_files(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    labels = rng.random(400) < 0.6
    names = [f"{number}.wav" for number in range(400)]
    key = (
        f"- {name} - - - {'bonafide' if label else 'spoof'}"
        for name, label in zip(names, labels, strict=True)
    )
    (tmp_path / "in_the_wild_key.txt").write_text("\n".join(key) + "\n")
    for place, system in enumerate(("paper", "v1", "v2")):
        scores = rng.normal(size=400) + (3 - place) * labels
        lines = (f"{name} {score:.6f}" for name, score in zip(names, scores, strict=True))
        (tmp_path / f"scores_{system}.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("SLS_SCORES_DIR", str(tmp_path))
    assert "paper is better than v2 on In-the-Wild" in run_notebook(IN_THE_WILD)[0]


@pytest.mark.slow
def test_the_runs_notebook_reads_a_tracking_store(store, small_corpus, monkeypatch):
    monkeypatch.setenv("SLS_EER_BELOW", "101")
    data = ["--data_root", str(small_corpus), "--num_workers", "0", "--device", "cpu"]
    tiny = ["--xlsr_model", "random:tiny", "--num_epochs", "1", "--lr", "1e-4"]
    assert CliRunner().invoke(train, [*data, *tiny]).exit_code == 0
    client = connect()
    (trained,) = client.search_runs(["1"], "tags.kind = 'train'")
    run_id = trained.info.run_id
    mean = ["--recipe", "mean", "--num_epochs", "2", "--average", "2"]
    assert CliRunner().invoke(train, [*data, *tiny, *mean]).exit_code == 0
    door = CliRunner().invoke(epochs, [*data, "--runs", run_id, "--track", "DF,In-the-Wild"])
    assert door.exit_code == 0, door.output
    # Of two evaluations of one checkpoint on a track the newer is shown.
    words = ["--data_root", str(small_corpus), "--track", "In-the-Wild"]
    words += ["--model", f"runs:/{run_id}"]
    assert CliRunner().invoke(evaluate, words).exit_code == 0
    newest, *others = client.search_runs(
        ["1"], "tags.kind = 'evaluate'", order_by=["attributes.end_time DESC"]
    )
    text, values = run_notebook(
        RUNS,
        "{'counts': [len(training), len(evaluations)], 'losses': list(shown['v1']), "
        "'below': [list(found_trainings['run_id']), [model.model_id for model in found_epochs]], 'rows': rows, "
        "'seeds': over_seeds.loc[('demo', 'v1', 'In-the-Wild/eer_percent')].fillna(-1).tolist(), "
        "'table': best_known.set_index('track')[['run_id', 'eer_percent', 'eer']].to_dict('index')}",
    )
    shown = values["table"]["In-the-Wild"]
    assert shown["run_id"] == newest.info.run_id
    assert shown["eer_percent"] == newest.data.metrics["In-the-Wild/eer_percent"]
    assert shown["eer"].count("[") == 2  # both of its intervals
    assert values["losses"] == [trained.data.metrics["train/loss"]]
    assert values["counts"] == [2, 3]
    assert values["below"] == [[run_id], [newest.data.tags["model_id"]]]
    eer_percent = client.get_run(run_id).data.metrics["DF/eer_percent"]
    assert values["rows"] == [["v1", "epoch_0", eer_percent, "demo-DF-key", run_id]]
    assert values["seeds"] == [1, round(shown["eer_percent"], 2), -1]  # of one run there is no deviation
    assert "synthetic" in text
    assert shown["eer"] in text
    for step in (run_id, newest.data.tags["model_id"], newest.data.tags["key_sha256"][:16]):
        assert step in text
    assert len(others) == 2


@pytest.mark.slow
def test_the_runs_notebook_says_so_where_nothing_was_evaluated(store):
    with pytest.raises(CellExecutionError, match="no finished evaluation"):
        run_notebook(RUNS)
