"""Times the evaluation of full-size LA and DF score files, against the way of the challenge's own script.

    python -m benchmarks.evaluation

Keys, ASV scores and scores are generated with the published numbers of trials, speakers, attacks and codecs.
Every figure is of a fresh process, start-up and reading of all files included. The script of the challenge,
which the seed system ships, reads with pandas, merges scores and key, and sweeps the threshold twice, once
negated.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np

LA_SUBSETS = {"eval": (14_816, 133_360), "progress": (1_676, 14_788), "hidden": (1_960, 14_966)}
DF_SUBSETS = {"eval": (14_869, 519_059), "progress": (5_768, 53_557), "hidden": (1_980, 16_596)}
LA_CODECS = ("none", "alaw", "pstn", "g722", "ulaw", "gsm", "opus")
TRANSMISSIONS = ("loc_tx", "ita_tx", "sin_tx", "mad_tx")
DF_CODECS = (
    *("nocodec", "low_mp3", "high_mp3", "low_m4a", "high_m4a", "low_ogg", "high_ogg"),
    *("mp3m4a", "oggm4a"),
)
VOCODERS = (
    *("traditional_vocoder", "waveform_concatenation", "neural_vocoder_autoregressive"),
    *("neural_vocoder_nonautoregressive", "unknown"),
)
# Corpora that DF joins: name, speakers, attacks, share of the spoofed trials.
DF_SOURCES = (("asvspoof", 48, 13, 0.45), ("vcc2018", 12, 37, 0.25), ("vcc2020", 14, 60, 0.30))
NUM_ASV_ROWS = 785_281
SEPARATION = {"LA": 3.6, "DF": 4.1}


@click.group(invoke_without_command=True)
@click.option("--repeats", default=3, show_default=True)
@click.pass_context
def main(context: click.Context, repeats: int) -> None:
    """Generates the corpora, times every form in turn, and prints a table."""
    if context.invoked_subcommand:
        return
    # Here, so that the processes that are timed do not start with it.
    from rich.console import Console
    from rich.table import Table

    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        generate(root)
        table = Table(title=f"Evaluation of full-size score files, median of {repeats} processes")
        for column in ("track", "what", "wall s", "CPU s", "wall, relative", "CPU, relative"):
            table.add_column(column)
        for track in ("LA", "DF"):
            # In turn, so that a busy machine slows all forms down alike.
            runs = np.array([[_time(form, track, root) for form in FORMS] for _ in range(repeats)])
            median = np.median(runs, axis=0)
            for what, seconds, ratios in zip(FORMS.values(), median, median / median[0], strict=True):
                table.add_row(track, what, *(f"{number:.2f}" for number in (*seconds, *ratios)))
        Console().print(table)


FORMS = {
    "challenge": "the challenge's script: EER and min t-DCF",
    "bare": "ours: EER and min t-DCF",
    "full": "ours: every breakdown, both kinds of intervals",
}


@main.command()
@click.argument("track")
@click.argument("root", type=click.Path(path_type=Path))
def bare(track: str, root: Path) -> None:
    """EER and, for LA, min t-DCF."""
    from sls.data.corpora.tracks import load_tracks
    from sls.data.tables.score_files import join_scores, read_scores
    from sls.metrics.eer import compute_eer, det_curve
    from sls.metrics.tdcf import asv_error_rates, revised_cost

    entry = load_tracks(None)[track]
    joined = join_scores(read_scores(root / f"{track}.txt"), entry.key(root)).select_subset("eval")
    is_bonafide = joined.key.labels == 1
    bonafide, spoof = joined.scores[is_bonafide], joined.scores[~is_bonafide]
    print(f"EER {100 * compute_eer(bonafide, spoof).eer:.4f} %")
    asv = entry.asv_scores(root)
    if asv is not None:
        rates = asv_error_rates(*asv.by_role())
        print(f"min t-DCF {revised_cost(rates).least(det_curve(bonafide, spoof)):.4f}")


@main.command()
@click.argument("track")
@click.argument("root", type=click.Path(path_type=Path))
def full(track: str, root: Path) -> None:
    """Everything that a report holds."""
    from sls.data.corpora.tracks import load_tracks
    from sls.data.tables.score_files import join_scores, read_scores
    from sls.engine.evaluation.evaluation import EvaluationPlan, evaluate

    entry = load_tracks(None)[track]
    joined = join_scores(read_scores(root / f"{track}.txt"), entry.key(root))
    read = time.perf_counter()
    found = evaluate(
        joined,
        EvaluationPlan(
            track,
            subset="eval",
            metrics=entry.metrics,
            breakdown=tuple(dict.fromkeys((*entry.breakdown, "speaker"))),
            asv=entry.asv_scores(root),
        ),
    )
    cells = sum(len(breakdown.cells) for breakdown in found.breakdowns)
    print(f"{found.measures[0]}, {cells} cells, {time.perf_counter() - read:.2f} s after reading")


@main.command()
@click.argument("track")
@click.argument("root", type=click.Path(path_type=Path))
def challenge(track: str, root: Path) -> None:
    """The form of the challenge's evaluate.py, which the seed system ships."""
    import pandas

    key = pandas.read_csv(root / f"keys/{track}/CM/trial_metadata.txt", sep=" ", header=None)
    scores = pandas.read_csv(root / f"{track}.txt", sep=" ", header=None, skipinitialspace=True)
    merged = scores.merge(key[key[7] == "eval"], left_on=0, right_on=1, how="inner")
    bonafide, spoof = (merged[merged[5] == label]["1_x"].to_numpy() for label in ("bonafide", "spoof"))
    rates = _read_asv_with_pandas(root) if track == "LA" else None
    for sign in (1, -1):
        frr, far, _ = _sweep(sign * bonafide, sign * spoof)
        index = np.argmin(np.abs(frr - far))
        print(f"EER {50 * (frr[index] + far[index]):.4f} %")
        if rates is not None:
            frr, far, _ = _sweep(sign * bonafide, sign * spoof)
            print(f"min t-DCF {_least_tdcf(frr, far, *rates):.4f}")


def _read_asv_with_pandas(root: Path) -> tuple[float, float, float]:
    import pandas

    key = pandas.read_csv(root / "keys/LA/ASV/trial_metadata.txt", sep=" ", header=None)
    scores = pandas.read_csv(root / "keys/LA/ASV/ASVTorch_Kaldi/score.txt", sep=" ", header=None)
    is_eval = key[7] == "eval"
    target, nontarget, spoof = (
        scores[is_eval][2][key[is_eval][5] == role] for role in ("target", "nontarget", "spoof")
    )
    frr, far, thresholds = _sweep(target.to_numpy(), nontarget.to_numpy())
    threshold = thresholds[np.argmin(np.abs(frr - far))]
    # As there, with Python's own sum over the rows.
    return (
        sum(nontarget >= threshold) / nontarget.size,
        sum(target < threshold) / target.size,
        np.sum(spoof >= threshold) / spoof.size,
    )


def _sweep(bonafide: np.ndarray, spoof: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores = np.concatenate([bonafide, spoof])
    labels = np.concatenate([np.ones(bonafide.size), np.zeros(spoof.size)])
    order = np.argsort(scores, kind="mergesort")
    rejected = np.cumsum(labels[order])
    accepted = spoof.size - (np.arange(1, scores.size + 1) - rejected)
    frr = np.concatenate([[0], rejected / bonafide.size])
    far = np.concatenate([[1], accepted / spoof.size])
    return frr, far, np.concatenate([[scores[order[0]] - 0.001], scores[order]])


def _least_tdcf(frr: np.ndarray, far: np.ndarray, false_alarm: float, miss: float, spoofed: float) -> float:
    c0 = 0.95 * 0.99 * miss + 0.95 * 0.01 * 10 * false_alarm
    c1 = 0.95 * 0.99 - c0
    c2 = 0.05 * 10 * spoofed
    return float(np.min(c0 + c1 * frr + c2 * far) / (c0 + min(c1, c2)))


def generate(root: Path) -> None:
    """Writes keys, ASV scores and one score file for each track under a data root."""
    rng = np.random.default_rng(1234)
    (root / "CORPUS.yaml").write_text("corpus: generated\n")
    for track, subsets in (("LA", LA_SUBSETS), ("DF", DF_SUBSETS)):
        rows, labels = [], []
        for subset, (num_bonafide, num_spoof) in subsets.items():
            for is_bonafide in [True] * num_bonafide + [False] * num_spoof:
                rows.append((subset, is_bonafide))
                labels.append(is_bonafide)
        order = rng.permutation(len(rows))
        make = _la_row if track == "LA" else _df_row
        draws = rng.random((len(rows), 6))
        lines = [
            make(f"{track}_E_{number:07d}", *rows[row], draws[number]) for number, row in enumerate(order)
        ]
        _write(root / f"keys/{track}/CM/trial_metadata.txt", lines)
        scores = rng.normal(size=len(rows)) + SEPARATION[track] * np.array(labels)[order]
        named = [f"{track}_E_{number:07d} {score:.9g}" for number, score in enumerate(scores)]
        _write(root / f"{track}.txt", named)
    _generate_asv(root, rng)


def _la_row(name: str, subset: str, is_bonafide: bool, draw: np.ndarray) -> str:
    speaker = f"LA_{int(draw[0] * (67 if is_bonafide else 48)):04d}"
    codec = LA_CODECS[int(draw[1] * len(LA_CODECS))]
    label = "bonafide" if is_bonafide else "spoof"
    attack = label if is_bonafide else f"A{7 + int(draw[2] * 13):02d}"
    transmission = "-" if codec == "none" else TRANSMISSIONS[int(draw[3] * len(TRANSMISSIONS))]
    return f"{speaker} {name} {codec} {transmission} {attack} {label} notrim {subset}"


def _df_row(name: str, subset: str, is_bonafide: bool, draw: np.ndarray) -> str:
    bounds = np.cumsum([share for *_, share in DF_SOURCES])
    place = min(int(np.searchsorted(bounds, draw[0])), len(DF_SOURCES) - 1)
    source, num_speakers, num_attacks, _ = DF_SOURCES[place]
    label = "bonafide" if is_bonafide else "spoof"
    attack_number = int(draw[2] * num_attacks)
    attack = "-" if is_bonafide else f"{source}-A{attack_number:02d}"
    vocoder = "bonafide" if is_bonafide else VOCODERS[attack_number % len(VOCODERS)]
    codec = DF_CODECS[int(draw[1] * len(DF_CODECS))]
    speaker = f"{source}_{int(draw[3] * num_speakers):04d}"
    return f"{speaker} {name} {codec} {source} {attack} {label} notrim {subset} {vocoder} - - - -"


def _generate_asv(root: Path, rng: np.random.Generator) -> None:
    roles = np.array(["target", "nontarget", "spoof"])[rng.choice(3, NUM_ASV_ROWS, p=[0.02, 0.75, 0.23])]
    means = {"target": 3.0, "nontarget": -1.0, "spoof": 2.0}
    subsets = rng.choice(["eval", "progress", "hidden"], NUM_ASV_ROWS, p=[0.82, 0.09, 0.09])
    draws = rng.random((NUM_ASV_ROWS, 4))
    scores = rng.normal(size=NUM_ASV_ROWS)
    keys, lines = [], []
    for row, role in enumerate(roles.tolist()):
        codec = LA_CODECS[int(draws[row, 0] * len(LA_CODECS))]
        attack = f"A{7 + int(draws[row, 1] * 13):02d}" if role == "spoof" else "bonafide"
        names = f"LA_{int(draws[row, 2] * 48):04d} LA_E_{row % 181_566:07d}"
        sent = "-" if codec == "none" else TRANSMISSIONS[int(draws[row, 3] * len(TRANSMISSIONS))]
        keys.append(f"{names} {codec} {sent} {attack} {role} notrim {subsets[row]}")
        lines.append(f"{names} {scores[row] + means[role]:.6f}")
    _write(root / "keys/LA/ASV/trial_metadata.txt", keys)
    _write(root / "keys/LA/ASV/ASVTorch_Kaldi/score.txt", lines)


def _write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _time(form: str, track: str, root: Path) -> tuple[float, float]:
    """Returns the wall and CPU seconds of one process, start-up included."""
    command = [sys.executable, "-m", "benchmarks.evaluation", form, track, str(root)]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
