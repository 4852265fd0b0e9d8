"""Protocols, keys and ASV scores of the demo corpus, as the real corpora write and place them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from sls.data.demo_corpus.plan import DemoTrial, Part

AUDIO_DIRECTORIES: dict[Part, str] = {
    "train": "LA/ASVspoof2019_LA_train/flac",
    "dev": "LA/ASVspoof2019_LA_dev/flac",
    "LA": "ASVspoof2021_LA_eval/flac",
    "DF": "ASVspoof2021_DF_eval/flac",
    "In-the-Wild": "release_in_the_wild",
}
PROTOCOLS_2019 = "LA/ASVspoof2019_LA_cm_protocols"
VOCODERS = {
    "-": "bonafide",
    "A05": "waveform_concatenation",
    "A06": "traditional_vocoder",
    "A07": "traditional_vocoder",
    "A08": "waveform_concatenation",
}

NUM_NONTARGETS = 3
# Means and standard deviation of the drawn ASV scores: targets against nontargets come to an EER of 4 %.
TARGET_MEAN, NONTARGET_MEAN, ASV_DEVIATION = 6.0, -1.0, 2.0
SPOOF_MEANS = {"A05": 1.5, "A06": 2.5, "A07": 4.0, "A08": 5.0}
TELEPHONE_LOSS = 0.7


def audio_path(trial: DemoTrial) -> Path:
    """Returns where a trial's file lies under the data root."""
    suffix = "" if trial.part == "In-the-Wild" else ".flac"
    return Path(AUDIO_DIRECTORIES[trial.part]) / f"{trial.name}{suffix}"


def write_tables(root: Path, trials: Sequence[DemoTrial], seed: int) -> None:
    """Writes every protocol, key and ASV file of the corpus under its root."""
    by_part = {part: [trial for trial in trials if trial.part == part] for part in AUDIO_DIRECTORIES}
    protocols = f"{PROTOCOLS_2019}/ASVspoof2019.LA.cm"
    _write(root / f"{protocols}.train.trn.txt", map(_row_2019, by_part["train"]))
    _write(root / f"{protocols}.dev.trl.txt", map(_row_2019, by_part["dev"]))
    for part in ("LA", "DF"):
        list_name = f"ASVspoof2021_{part}_eval/ASVspoof2021.{part}.cm.eval.trl.txt"
        _write(root / list_name, (trial.name for trial in by_part[part]))
    _write(root / "keys/LA/CM/trial_metadata.txt", map(_row_la, by_part["LA"]))
    _write(root / "keys/DF/CM/trial_metadata.txt", map(_row_df, by_part["DF"]))
    wild = [f"{trial.name},{trial.speaker},{_label(trial, 'bona-fide')}" for trial in by_part["In-the-Wild"]]
    _write(root / "release_in_the_wild/meta.csv", ["file,speaker,label", *wild])
    _write_asv(root / "keys/LA/ASV", by_part["LA"], np.random.default_rng([seed, len(trials)]))


def _label(trial: DemoTrial, bonafide: str = "bonafide") -> str:
    return bonafide if trial.is_bonafide else "spoof"


def _row_2019(trial: DemoTrial) -> str:
    return f"{trial.speaker} {trial.name} - {trial.attack} {_label(trial)}"


def _row_la(trial: DemoTrial) -> str:
    attack = "bonafide" if trial.is_bonafide else trial.attack
    return (
        f"{trial.speaker} {trial.name} {trial.codec} {trial.transmission} {attack} {_label(trial)} "
        f"{trial.trim} {trial.subset}"
    )


def _row_df(trial: DemoTrial) -> str:
    return (
        f"{trial.speaker} {trial.name} {trial.codec} demo {trial.attack} {_label(trial)} {trial.trim} "
        f"{trial.subset} {VOCODERS[trial.attack]} - - - -"
    )


def _write_asv(directory: Path, trials: Sequence[DemoTrial], rng: np.random.Generator) -> None:
    """Writes the ASV trials and, row by row, scores drawn from normal distributions (no ASV system made them)."""
    speakers = sorted({trial.speaker for trial in trials})
    metadata, scores = [], []
    for trial in trials:
        loss = 0.0 if trial.codec in ("none", "g722", "opus") else TELEPHONE_LOSS
        for enrolled, label, mean in _enrolments(trial, speakers, rng):
            condition = f"{trial.codec}-{trial.transmission}"
            names = f"{enrolled}-{condition} {trial.name}-{condition}"
            attack = "bonafide" if trial.is_bonafide else trial.attack
            metadata.append(
                f"{names} {trial.codec} {trial.transmission} {attack} {label} {trial.trim} {trial.subset}"
            )
            scores.append(f"{names} {rng.normal(mean - loss, ASV_DEVIATION):.6f}")
    _write(directory / "trial_metadata.txt", metadata)
    _write(directory / "ASVTorch_Kaldi/score.txt", scores)


def _enrolments(
    trial: DemoTrial, speakers: Sequence[str], rng: np.random.Generator
) -> list[tuple[str, str, float]]:
    """Returns the enrolled speakers a trial meets, with the label and the mean score of each meeting."""
    if not trial.is_bonafide:
        return [(trial.speaker, "spoof", SPOOF_MEANS[trial.attack])]
    others = [speaker for speaker in speakers if speaker != trial.speaker]
    strangers = rng.choice(others, size=NUM_NONTARGETS, replace=False)
    meetings = [(str(stranger), "nontarget", NONTARGET_MEAN) for stranger in strangers]
    return [(trial.speaker, "target", TARGET_MEAN), *meetings]


def _write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
