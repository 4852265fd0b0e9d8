"""How fast the key of ASVspoof 2021 DF is read at its full size, beside the ways in which one usually reads it.

Processor time is what is compared: a shared machine disturbs it less than the clock. The rows are made up,
in the form and number of the real key. Every reader returns names, labels and the other columns; ours checks
them too (columns in each line, known labels and subsets, no trial twice), takes the SHA-256 of the file, and
makes columns beyond trial, label and subset when they are first asked for.
"""

from __future__ import annotations

import csv
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pyarrow
import pyarrow.csv

from sls.data.corpora.tracks import load_tracks
from sls.data.tables.protocols import read_protocol

NUM_ROWS = 611_829
FORMATS = load_tracks()["DF"].key_search.formats  # type: ignore[union-attr]
COLUMNS = FORMATS[0].columns


def make_df_key(path: Path, num_rows: int, seed: int = 1234) -> None:
    """Writes a key in the form of the real one: 13 columns, unique names, skewed classes and subsets."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.arange(2_000_000, 2_000_000 + 3 * num_rows))[:num_rows].tolist()

    def draw(values: list[str], weights: list[float] | None = None) -> list[str]:
        return rng.choice(values, size=num_rows, p=weights).tolist()

    bonafide = (rng.random(num_rows) < 0.037).tolist()
    columns = zip(
        draw([f"LA_{i:04d}" for i in range(1, 68)] + [f"TEF{i}" for i in range(1, 5)]),
        names,
        draw(
            [
                "nocodec",
                "low_mp3",
                "high_mp3",
                "low_m4a",
                "high_m4a",
                "low_ogg",
                "high_ogg",
                "mp3m4a",
                "oggm4a",
            ]
        ),
        draw(["asvspoof", "vcc2018", "vcc2020"]),
        draw([f"A{i:02d}" for i in range(7, 20)] + ["Task1-team20", "Task2-team12", "HUB-D05"]),
        bonafide,
        draw(["notrim", "trim"]),
        draw(["eval", "progress", "hidden"], [0.873, 0.097, 0.030]),
        draw(["traditional_vocoder", "neural_vocoder_autoregressive", "waveform_concatenation", "unknown"]),
        draw(["-", "Task1", "Task2"]),
        draw(["-", "team20", "team12"]),
        draw(["-", "F-F", "F-M", "M-F", "M-M"]),
        draw(["-", "E", "F", "G", "M"]),
        strict=True,
    )
    with path.open("w", encoding="utf-8") as file:
        for row in columns:
            speaker, name, compression, source, attack, is_bonafide, trim, subset, vocoder, *rest = row
            if is_bonafide:
                attack, vocoder = "-", "bonafide"
            label = "bonafide" if is_bonafide else "spoof"
            fields = [
                speaker,
                f"DF_E_{name}",
                compression,
                source,
                attack,
                label,
                trim,
                subset,
                vocoder,
                *rest,
            ]
            file.write(" ".join(fields) + "\n")


def read_ours(path: Path) -> int:
    """Our reader, with all its checks."""
    return len(read_protocol(path, FORMATS))


def read_by_split(path: Path) -> int:
    """The loop that most code has: split each line, append to lists."""
    columns: list[list[str]] = [[] for _ in COLUMNS]
    with path.open() as file:
        for line in file:
            for column, value in zip(columns, line.strip().split(" "), strict=True):
                column.append(value)
    return len(columns[0])


def read_by_csv(path: Path) -> int:
    """The csv module, rows turned into columns."""
    with path.open(newline="") as file:
        columns = list(zip(*csv.reader(file, delimiter=" "), strict=True))
    return len(columns[0])


def read_by_pandas(path: Path) -> int:
    """Pandas as the challenges' package calls it; version 3 keeps text in Arrow arrays."""
    import pandas

    return len(pandas.read_csv(path, sep=" ", header=None))


def read_by_pandas_as_objects(path: Path) -> int:
    """Pandas with columns of Python strings, as every version before 3 gave them."""
    import pandas

    return len(pandas.read_csv(path, sep=" ", header=None, dtype=object))


def read_by_pandas_and_arrow(path: Path) -> int:
    """Pandas with the parser of Arrow."""
    import pandas

    return len(pandas.read_csv(path, sep=" ", header=None, engine="pyarrow"))


def read_by_arrow(path: Path) -> int:
    """Arrow's parser on all cores, every column as strings."""
    types = dict.fromkeys(COLUMNS, pyarrow.string())
    return pyarrow.csv.read_csv(
        path,
        pyarrow.csv.ReadOptions(column_names=list(COLUMNS)),
        pyarrow.csv.ParseOptions(delimiter=" ", quote_char=False),
        pyarrow.csv.ConvertOptions(column_types=types),
    ).num_rows


def read_by_loadtxt(path: Path) -> int:
    """numpy.loadtxt."""
    return len(np.loadtxt(path, dtype=str, delimiter=" ", comments=None))


READERS: dict[str, Callable[[Path], int]] = {
    "ours (checked)": read_ours,
    "pyarrow.csv": read_by_arrow,
    "pandas.read_csv, engine=pyarrow": read_by_pandas_and_arrow,
    "pandas.read_csv": read_by_pandas,
    "pandas.read_csv, dtype=object": read_by_pandas_as_objects,
    "csv.reader": read_by_csv,
    "split in a loop": read_by_split,
    "numpy.loadtxt": read_by_loadtxt,
}


@click.command()
@click.option("--rows", default=NUM_ROWS, show_default=True, help="Rows of the key.")
@click.option("--repeats", default=5, show_default=True, help="Times that each reader reads it, in turns.")
def main(rows: int, repeats: int) -> None:
    """Prints a table of seconds and ratios."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial_metadata.txt"
        make_df_key(path, rows)
        size_mb = path.stat().st_size / 1e6
        seconds: dict[str, list[float]] = {name: [] for name in READERS}
        cpu_s: dict[str, list[float]] = {name: [] for name in READERS}
        read_by_pandas(path)  # its import is not what is measured
        for _ in range(repeats):
            for name, reader in READERS.items():  # in turns, so that a busy machine is busy for all
                start, start_cpu = time.perf_counter(), time.process_time()
                found = reader(path)
                seconds[name].append(time.perf_counter() - start)
                cpu_s[name].append(time.process_time() - start_cpu)
                if found != rows:
                    raise click.ClickException(f"{name}: found {found} rows, expected {rows}")
    print(f"{rows} rows, {size_mb:.1f} MB, {repeats} readings each, in turns\n")
    print("| reader | processor s, median | against ours | by the clock s, fastest | median |")
    print("|---|---|---|---|---|")
    ours = statistics.median(cpu_s["ours (checked)"])
    for name in READERS:
        cost_s = statistics.median(cpu_s[name])
        clock_s = seconds[name]
        print(
            f"| {name} | {cost_s:.2f} | {cost_s / ours:.1f} "
            f"| {min(clock_s):.2f} | {statistics.median(clock_s):.2f} |"
        )


if __name__ == "__main__":
    main()
