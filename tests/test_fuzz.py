"""Every reader, given a thousand damaged inputs; `python -m benchmarks.fuzz` gives them more."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import fuzz
from benchmarks.fuzz_readers import READERS, Contradiction, Reader

ROOT = Path(__file__).resolve().parents[1]
NUM_INPUTS = 1_000


@pytest.mark.slow
def test_every_reader_refuses_in_its_one_kind_or_reads_what_stands_there(tmp_path: Path) -> None:
    """In a process of its own, which a reader may end, and whose memory is that of the readers alone."""
    command = [
        "benchmarks.fuzz",
        "--inputs",
        str(NUM_INPUTS * len(READERS)),
        "--seed",
        "20",
        "--kept",
        str(tmp_path),
    ]
    ended = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, f"{ended.stdout[-3_000:]}\n{ended.stderr[-3_000:]}"
    assert ended.stdout.count(f": {NUM_INPUTS} inputs") == len(READERS)


@pytest.mark.parametrize("name", READERS)
def test_a_reader_takes_its_seeds_as_they_stand(name: str, tmp_path: Path) -> None:
    reader = READERS[name](tmp_path)
    directory = tmp_path / "inputs"
    directory.mkdir()
    for seed in reader.seeds:
        path = directory / reader.file_name
        path.write_bytes(reader.wrap(seed))
        reader.read(path)


def test_an_input_depends_on_the_state_of_its_generator_alone() -> None:
    def damaged(seed: int) -> list[bytes]:
        rng = random.Random(seed)
        return [fuzz.damage(b"a b\nc d\n" * 9, rng, [b"e f\n"]) for _ in range(50)]

    assert damaged(1) == damaged(1)
    assert damaged(1) != damaged(2)


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (KeyError("a"), "KeyError"),
        (Contradiction("found 1, expected 2"), "found 1, expected 2"),
        (ValueError("no name"), "a refusal such as"),
        (ValueError("seed.txt: two\nlines"), "a refusal such as"),
        (fuzz.Hang(), "more than"),
    ],
)
def test_what_is_no_refusal_in_one_line_is_found_and_its_input_kept(
    tmp_path: Path, error: BaseException, found: str
) -> None:
    def read(path: Path) -> None:
        raise error

    findings = fuzz.fuzz_reader(Reader("broken", "seed.txt", (b"a b\n",), read), 3, 1, tmp_path / "kept")
    assert len(findings) == 1
    assert findings[0].startswith("broken: 3 times, ")
    assert found in findings[0]
    assert (tmp_path / "kept" / "broken-1-0").is_file()


def test_a_refusal_that_names_its_file_is_no_finding(tmp_path: Path) -> None:
    def read(path: Path) -> None:
        raise ValueError(f"{path}:1: found a, expected b")

    assert fuzz.fuzz_reader(Reader("strict", "seed.txt", (b"a b\n",), read), 3, 1, tmp_path) == []
