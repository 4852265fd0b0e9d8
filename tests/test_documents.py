"""The documents lead somewhere: links name files and headings that exist, and commands what a door takes."""

import importlib
import itertools
import os
import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from sls.config import PROJECT_ROOT

DOCUMENTS = sorted(
    [
        *PROJECT_ROOT.glob("*.md"),
        *PROJECT_ROOT.glob("docs/*.md"),
        *PROJECT_ROOT.glob("benchmarks/results/*.md"),
    ]
)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]*)?\)")
COMMAND = re.compile(r"(?:^ {4,7}|`)((?:mlflow run|python -m|python examples/|torchrun) ?[^`\n#]*)", re.M)
MADE_BY_USERS = {"my.tracks.yaml", "my.conditions.yaml"}


def anchor_of(heading: str) -> str:
    """As the usual renderers make it: lower case, without punctuation, dashes for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def commands() -> list[tuple[str, str]]:
    found = []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        found += [
            (path.relative_to(PROJECT_ROOT).as_posix(), match.strip()) for match in COMMAND.findall(text)
        ]
    return found


def options_of(module: str) -> set[str]:
    loaded = importlib.import_module(module)
    command = getattr(loaded, module.rpartition(".")[2], None) or getattr(loaded, "main", None)
    assert isinstance(command, click.Command), module
    return {option.lstrip("-") for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(PROJECT_ROOT).as_posix())
def test_links_lead_to_files_and_headings(path: Path) -> None:
    for target, anchor in LINK.findall(path.read_text(encoding="utf-8")):
        linked = path.parent / target if target else path
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.M)
            assert anchor[1:] in map(anchor_of, headings), f"{target}{anchor}"


def test_documents_show_commands() -> None:
    shown = {command.split(" -P")[0] for _, command in commands()}
    assert {"mlflow run . -e train", "mlflow run . -e evaluate"} <= shown


@pytest.mark.parametrize(("document", "command"), sorted(set(commands())))
def test_commands_name_doors_options_and_files_that_exist(document: str, command: str) -> None:
    words = shlex.split(command)
    given = [word.partition("=")[::2] for flag, word in itertools.pairwise(words) if flag == "-P"]
    if words[:3] == ["mlflow", "run", "."]:
        module = "entrypoints." + (words[words.index("-e") + 1] if "-e" in words else "main")
    elif "-m" in words and not words[words.index("-m") + 1].startswith(
        ("torch", "http", "venv", "pip", "pytest")
    ):
        module = words[words.index("-m") + 1]
        given = [
            (word[2:].partition("=")[0], "") for word in words[words.index(module) :] if word.startswith("--")
        ]
    else:
        assert words[0] != "python" or (PROJECT_ROOT / words[1]).is_file()
        return
    if module == "entrypoints.COMMAND":
        return
    known = options_of(module)
    for name, value in given:
        assert name in known, name
        for file in re.findall(r"[\w./-]+\.ya?ml", value):
            assert file in MADE_BY_USERS or (PROJECT_ROOT / file).is_file(), file


@pytest.mark.parametrize("task", ["0", "2"])
def test_a_grid_of_jobs_is_of_words_that_any_shell_takes(task: str) -> None:
    text = (PROJECT_ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    (wrapped,) = (found for found in re.findall(r"--wrap '(.+?)'", text, re.DOTALL) if "--lr" in found)
    told = subprocess.run(
        ["sh", "-c", wrapped.replace(".venv/bin/python -m", "echo")],  # sbatch hands it to sh
        env={**os.environ, "SLURM_ARRAY_TASK_ID": task},
        capture_output=True,
        text=True,
    )
    rate = {"0": "1e-6", "2": "1e-5"}[task]
    assert told.stdout.split() == ["entrypoints.train", "--lr", rate, "--recipe", f"lr-{rate}"], told.stderr
