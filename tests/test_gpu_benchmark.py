"""Tests of `benchmarks.gpu`, on a CPU: every phase runs, and one that fails costs the others nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT_ROOT = Path(__file__).resolve().parents[1]


def measure(page: Path, *options: str) -> tuple[int, dict[str, str]]:
    """Returns the exit code, and the text of each section by its first word."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu",
        "--page",
        str(page),
        "--shape",
        "tiny",
        "--workers",
        "1",
    ]
    ended = subprocess.run(
        [*command, *options], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )
    assert page.exists(), ended.stderr
    sections = page.read_text(encoding="utf-8").split("\n## ")[1:]
    return ended.returncode, {section.split()[0]: section for section in sections}


@pytest.mark.slow
def test_every_phase_runs_on_a_cpu_too(tmp_path) -> None:
    code, sections = measure(tmp_path / "gpu.md", "--device", "cpu", "--seconds", "0.05")
    assert code == 0
    assert list(sections) == ["The", "Scoring", "Training", "Compiled", "Tests", "Where", "Workers"]
    for name in ("Scoring", "Training"):
        ways = [line.split("|")[1].strip() for line in sections[name].splitlines() if line.startswith("| ")]
        assert {"seed system's", "ours"} <= set(ways)
    assert all("**" not in section and section.count("\n| ") > 1 for section in sections.values())


@pytest.mark.slow
def test_a_phase_that_fails_or_lasts_too_long_is_told_and_the_next_one_begins(tmp_path) -> None:
    code, sections = measure(tmp_path / "gpu.md", "--device", "nowhere", "--only", "machine,loading")
    assert code == 1
    assert "**failed: " in sections["The"]
    assert "nowhere" in sections["The"]
    assert "**failed: " in sections["Workers"]
    code, sections = measure(
        tmp_path / "cut.md", "--device", "cpu", "--only", "machine,tests", "--minutes", "0.005"
    )
    assert code == 1
    assert "**cut off after " in sections["The"]
    assert "**not begun: " in sections["Tests"]


@pytest.mark.slow
def test_it_needs_no_mlflow() -> None:
    code = "import sys, benchmarks.gpu, benchmarks.gpu_phases; sys.exit('mlflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, check=True)
