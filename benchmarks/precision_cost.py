"""Measures what a precision of scoring costs: shift of the scores, EER, and decisions, on one track.

    python -m benchmarks.precision_cost --tracks FILE --data_root DIR --track dev fp32.txt bf16.txt int8.txt

The score files are of one model. The first is the reference, by whose threshold at its EER all decide. The interval
of the difference of the EERs is that of `compare`: over speakers and attacks where the key knows them.
"""

from pathlib import Path

import click
import numpy as np

from sls.config import DataConfig
from sls.data.corpora.corpus import open_corpus
from sls.data.tables.score_files import join_scores, read_scores
from sls.engine.evaluation.comparison import compare
from sls.engine.evaluation.evaluation import EvaluationPlan
from sls.metrics.eer import compute_eer


@click.command()
@click.option("--tracks", default="")
@click.option("--data_root", required=True)
@click.option("--track", "name", required=True)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def main(tracks: str, data_root: str, name: str, files: tuple[Path, ...]) -> None:
    """Prints a row for each score file."""
    if len({file.stem for file in files}) < len(files):
        raise click.UsageError("found files of one name, expected one for each precision, such as fp32.txt")
    track = open_corpus(DataConfig(data_root, tracks)).track(name)
    key = track.key(data_root)
    systems = {
        file.stem: join_scores(read_scores(file), key).select_subset(track.default_subset) for file in files
    }
    first = next(iter(systems.values()))
    threshold = compute_eer(first.scores[first.is_bonafide], first.scores[~first.is_bonafide]).threshold
    print(f"{name}, {len(first)} trials\n")
    print(
        "| precision | EER, % | difference, points | 95 % over | largest shift | mean shift | other decisions |"
    )
    print("|---|---|---|---|---|---|---|")
    for system, joined in systems.items():
        shift = np.abs(joined.scores - first.scores)
        others = np.count_nonzero((joined.scores > threshold) != (first.scores > threshold))
        eer = compute_eer(joined.scores[joined.is_bonafide], joined.scores[~joined.is_bonafide]).eer
        told = "| |"
        if joined is not first:
            comparison = compare({"this": joined, "first": first}, EvaluationPlan(name))
            interval = comparison.differences[0].tested.interval
            told = (
                f"{100 * comparison.differences[0].value:+.2f} "
                f"[{100 * interval.low:.2f}, {100 * interval.high:.2f}] | {interval.over} |"
            )
        print(f"| {system} | {100 * eer:.2f} | {told} {shift.max():.1e} | {shift.mean():.1e} | {others} |")


if __name__ == "__main__":
    main()
