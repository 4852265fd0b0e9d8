"""Protocols, keys and ASV scores of the demo corpus, as the real corpora write and place them."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from sls.data.demo_corpus.plan import ATTACKS, BONAFIDE, DemoTrial

AUDIO_DIRECTORIES: dict[str, str] = {
    "train": "LA/ASVspoof2019_LA_train/flac",
    "dev": "LA/ASVspoof2019_LA_dev/flac",
    "ASVspoof2019-LA": "LA/ASVspoof2019_LA_eval/flac",
    "LA": "ASVspoof2021_LA_eval/flac",
    "DF": "ASVspoof2021_DF_eval/flac",
    "In-the-Wild": "release_in_the_wild",
}
PROTOCOLS_2019 = "LA/ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm"
ASV_SCORES_2019 = "LA/ASVspoof2019_LA_asv_scores/ASVspoof2019.LA.asv.eval.gi.trl.scores.txt"
# Means and standard deviation of the drawn ASV scores: targets against nontargets come to an EER of 4 %.
TARGET_MEAN, NONTARGET_MEAN, ASV_DEVIATION = 6.0, -1.0, 2.0
SPOOF_MEANS = np.linspace(1.5, 5.0, 13)  # from A07 to A19


def audio_path(trial: DemoTrial) -> Path:
    """Returns where a trial's file lies under the data root."""
    suffix = "" if trial.part == "In-the-Wild" else ".flac"
    return Path(AUDIO_DIRECTORIES[trial.part]) / f"{trial.name}{suffix}"


def write_tables(root: Path, trials: Sequence[DemoTrial], seed: int) -> None:
    """Writes every protocol, key and ASV file of the corpus under its root."""
    of = {part: [trial for trial in trials if trial.part == part] for part in AUDIO_DIRECTORIES}
    for part, name in (("train", "train.trn"), ("dev", "dev.trl"), ("ASVspoof2019-LA", "eval.trl")):
        rows = (f"{trial.speaker} {trial.name} - {trial.attack} {trial.label}" for trial in of[part])
        _write(root / f"{PROTOCOLS_2019}.{name}.txt", rows)
    for part in ("LA", "DF"):
        protocol = f"ASVspoof2021_{part}_eval/ASVspoof2021.{part}.cm.eval.trl.txt"
        _write(root / protocol, (trial.name for trial in of[part]))
        row_of = _row_la if part == "LA" else _row_df
        _write(root / f"keys/{part}/CM/trial_metadata.txt", map(row_of, of[part]))
    meta = [f"{trial.name},{trial.speaker},{trial.label}" for trial in of["In-the-Wild"]]
    meta = [row.replace("bonafide", "bona-fide") for row in ("file,speaker,label", *meta)]
    _write(root / "release_in_the_wild/meta.csv", meta)
    rng = np.random.default_rng([seed, len(trials)])
    met = _meet(of["ASVspoof2019-LA"], rng)
    _write(root / ASV_SCORES_2019, (f"{_attack(trial)} {role} {score:.6f}" for trial, _, role, score in met))
    metadata, scores = [], []
    for trial, enrolled, role, score in _meet(of["LA"], rng):
        names = " ".join(f"{name}-{trial.codec}-{trial.transmission}" for name in (enrolled, trial.name))
        condition = f"{trial.codec} {trial.transmission} {_attack(trial)}"
        metadata.append(f"{names} {condition} {role} {_end_of_row(trial)}")
        scores.append(f"{names} {score:.6f}")
    _write(root / "keys/LA/ASV/trial_metadata.txt", metadata)
    _write(root / "keys/LA/ASV/ASVTorch_Kaldi/score.txt", scores)


def _attack(trial: DemoTrial) -> str:
    return "bonafide" if trial.attack == BONAFIDE else trial.attack


def _end_of_row(trial: DemoTrial) -> str:
    return f"{'trim' if trial.subset == 'hidden' else 'notrim'} {trial.subset}"


def _row_la(trial: DemoTrial) -> str:
    condition = f"{trial.codec} {trial.transmission} {_attack(trial)}"
    return f"{trial.speaker} {trial.name} {condition} {trial.label} {_end_of_row(trial)}"


def _row_df(trial: DemoTrial) -> str:
    source = {"LA_": "asvspoof", "VCC": "vcc2018"}.get(trial.speaker[:3], "vcc2020")
    conversion = "- - - -"
    if source != "asvspoof" and trial.attack != BONAFIDE:
        # Task, team, genders and language; who is imitated gives the last letters of the speaker's name, as in TGF1.
        genders = "FM"[int(trial.name[-1]) % 2] + trial.speaker[-2]
        language = trial.speaker[-3] if source == "vcc2020" else "E"
        conversion = f"{trial.attack.replace('-', ' ')} {genders} {language}"
    kind = "bonafide" if trial.attack == BONAFIDE else ATTACKS[trial.attack][0]
    condition = f"{trial.codec} {source} {trial.attack}"
    return f"{trial.speaker} {trial.name} {condition} {trial.label} {_end_of_row(trial)} {kind} {conversion}"


def _meet(
    trials: Sequence[DemoTrial], rng: np.random.Generator
) -> Iterator[tuple[DemoTrial, str, str, float]]:
    """Yields each trial with every enrolled speaker that it meets, the role, and a score that no ASV system made."""
    speakers = sorted({trial.speaker for trial in trials})
    for trial in trials:
        if trial.attack == BONAFIDE:
            others = [speaker for speaker in speakers if speaker != trial.speaker]
            strangers = map(str, rng.choice(others, size=3, replace=False))
            meetings = [(trial.speaker, "target", TARGET_MEAN)]
            meetings += [(stranger, "nontarget", NONTARGET_MEAN) for stranger in strangers]
        else:
            meetings = [(trial.speaker, "spoof", SPOOF_MEANS[int(trial.attack[1:]) - 7])]
        for enrolled, role, mean in meetings:
            yield trial, enrolled, role, rng.normal(mean, ASV_DEVIATION)


def _write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
