"""Which trials the demo corpus has: how many, of whom, under which attack and condition."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

BONAFIDE = "-"
ATTACKS: dict[str, tuple[str, dict[str, float]]] = {
    "A01": ("neural_vocoder_nonautoregressive", {"num_cepstra": 120, "num_rounds": 8}),
    "A02": ("traditional_vocoder", {"num_cepstra": 30, "noise_from_hz": 8000}),
    "A03": ("traditional_vocoder", {"num_cepstra": 60, "noise_from_hz": 4000, "flatness": 1}),
    "A04": ("waveform_concatenation", {"unit_s": 0.06}),
    "A05": ("traditional_vocoder", {"num_cepstra": 20, "noise_from_hz": 2500}),
    "A06": ("unknown", {"warp": 1.2, "dispersion": 1.5}),
    "A07": ("traditional_vocoder", {"num_cepstra": 40, "noise_from_hz": 5000}),
    "A08": ("neural_vocoder_nonautoregressive", {"num_cepstra": 150, "num_rounds": 4}),
    "A09": ("traditional_vocoder", {"num_cepstra": 50, "noise_from_hz": 8000}),
    "A10": ("neural_vocoder_autoregressive", {"num_steps": 8}),
    "A11": ("neural_vocoder_nonautoregressive", {"num_cepstra": 256, "num_rounds": 20}),
    "A12": ("neural_vocoder_nonautoregressive", {"num_cepstra": 256, "spread": 1.4}),
    "A13": ("waveform_concatenation", {"unit_s": 0.3}),
    "A14": ("traditional_vocoder", {"num_cepstra": 80, "noise_from_hz": 6000}),
    "A15": ("neural_vocoder_nonautoregressive", {"num_cepstra": 180, "num_rounds": 30}),
    "A16": ("waveform_concatenation", {"unit_s": 0.06}),
    "A17": ("unknown", {"warp": 0.9, "dispersion": 0.5}),
    "A18": ("traditional_vocoder", {"num_cepstra": 13, "noise_from_hz": 3000}),
    "A19": ("unknown", {"warp": 1.2, "dispersion": 1.5}),
    "HUB-N10": ("neural_vocoder_autoregressive", {"num_steps": 6}),
    "SPO-N03": ("unknown", {"warp": 1.1, "dispersion": 0.7}),
    "Task1-team20": ("neural_vocoder_nonautoregressive", {"num_cepstra": 220, "spread": 1.6}),
    "Task2-team12": ("traditional_vocoder", {"num_cepstra": 40, "noise_from_hz": 3500}),
    "W1": ("neural_vocoder_nonautoregressive", {"num_cepstra": 200, "num_rounds": 50}),
    "W2": ("traditional_vocoder", {"num_cepstra": 70, "noise_from_hz": 5000}),
    "W3": ("waveform_concatenation", {"unit_s": 0.25}),
}
"""By name the kind, as the key of DF calls it, and the settings of what stands for such a system in `attacks`.

A01 to A06 are seen in training; A16 and A19 are A04 and A06, as in the real corpora. W1 to W3 are In the Wild.
"""
SEEN_ATTACKS, UNSEEN_ATTACKS, WILD_ATTACKS = tuple(ATTACKS)[:6], tuple(ATTACKS)[6:19], tuple(ATTACKS)[23:]
LA_CODECS = ("none", "alaw", "pstn", "g722", "ulaw", "gsm", "opus")
LA_TRANSMISSIONS = ("ita_tx", "sin_tx", "loc_tx")
MP3_AND_M4A, OGG = ("low_mp3", "high_mp3", "low_m4a", "high_m4a"), ("low_ogg", "high_ogg")
DF_COMPRESSIONS = ("nocodec", *MP3_AND_M4A, *OGG, "mp3m4a", "oggm4a")


@dataclass(frozen=True)
class DemoTrial:
    """One recording to be made, by what the keys say of it."""

    part: str
    subset: str
    name: str
    speaker: str
    attack: str
    codec: str
    transmission: str

    @property
    def label(self) -> str:
        """As the keys spell it: `bonafide` where no attack made it, else `spoof`."""
        return "bonafide" if self.attack == BONAFIDE else "spoof"


@dataclass(frozen=True)
class SubsetPlan:
    """The make-up of one subset of a part; the counts are those of scale 1."""

    part: str
    subset: str
    num_bonafide: int
    num_spoof: int
    attacks: tuple[str, ...]
    speakers: tuple[str, ...]
    codecs: tuple[str, ...] = ("none",)


def _speakers(first: int, count: int) -> tuple[str, ...]:
    return tuple(f"LA_{number:04d}" for number in range(first, first + count))


# How many speakers there are shares no factor with how many attacks, so that everyone meets every one of them.
_EVAL, _WILD = _speakers(1, 11), tuple(f"Demo Voice {number}" for number in range(1, 9))
_VCC2018 = ("VCC2SF1", "VCC2SF2", "VCC2SM1", "VCC2TF1", "VCC2TM1")
_VCC2020 = ("TEF1", "TEM1", "TEM2", "TGF1", "TGM1")

PLANS = (
    SubsetPlan("train", "train", 240, 360, SEEN_ATTACKS, _speakers(79, 19)),
    SubsetPlan("dev", "dev", 80, 120, SEEN_ATTACKS, _speakers(69, 7)),
    SubsetPlan("ASVspoof2019-LA", "eval", 44, 78, UNSEEN_ATTACKS, _EVAL),
    SubsetPlan("LA", "eval", 77, 91, UNSEEN_ATTACKS, _EVAL, LA_CODECS),
    SubsetPlan("LA", "progress", 7, 13, UNSEEN_ATTACKS, _EVAL[:4], LA_CODECS),
    SubsetPlan("LA", "hidden", 7, 13, UNSEEN_ATTACKS, _EVAL, LA_CODECS),
    SubsetPlan("DF", "eval", 45, 65, UNSEEN_ATTACKS, _EVAL, DF_COMPRESSIONS),
    SubsetPlan("DF", "eval", 18, 18, ("HUB-N10", "SPO-N03"), _VCC2018, DF_COMPRESSIONS),
    SubsetPlan("DF", "eval", 18, 18, ("Task1-team20", "Task2-team12"), _VCC2020, DF_COMPRESSIONS),
    SubsetPlan("DF", "progress", 9, 13, UNSEEN_ATTACKS, _EVAL[:4], DF_COMPRESSIONS),
    SubsetPlan("DF", "hidden", 9, 13, UNSEEN_ATTACKS, _EVAL, DF_COMPRESSIONS),
    SubsetPlan("In-the-Wild", "eval", 64, 81, WILD_ATTACKS, _WILD),
)
PARTS = tuple(dict.fromkeys(plan.part for plan in PLANS))


def plan_corpus(seed: int, scale: float) -> list[DemoTrial]:
    """Returns every trial, part by part in the order of its protocol; raises ValueError for a scale of 0 or less."""
    if not 0 < scale < math.inf:
        raise ValueError(f"demo corpus: scale: found {scale}, expected a positive number")
    trials: list[DemoTrial] = []
    for number, part in enumerate(PARTS):
        rng = np.random.default_rng([seed, number])
        drawn = [trial for plan in PLANS if plan.part == part for trial in _draw_subset(plan, scale, rng)]
        names = _draw_names(part, len(drawn), rng)
        order = rng.permutation(len(drawn))
        trials += [replace(drawn[index], name=name) for index, name in zip(order, names, strict=True)]
    return trials


def count_trials(trials: Sequence[DemoTrial]) -> dict[str, dict[str, dict[str, int]]]:
    """Counts `trials`, `bonafide` and `spoof` by part and, within it, by subset and in `all`."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for trial in trials:
        for subset in ("all", trial.subset) if trial.part in ("LA", "DF") else ("all",):
            cell = counts.setdefault(trial.part, {}).setdefault(subset, {})
            for counted in ("trials", trial.label):
                cell[counted] = cell.get(counted, 0) + 1
    return counts


def _draw_subset(plan: SubsetPlan, scale: float, rng: np.random.Generator) -> Iterator[DemoTrial]:
    """Yields the subset's trials; attacks, codecs and speakers take turns: of many trials, each of them gets some."""
    bonafide = [(number, BONAFIDE) for number in range(max(2, round(plan.num_bonafide * scale)))]
    num_spoof = max(len(plan.attacks), round(plan.num_spoof * scale))
    spoofed = [(number, plan.attacks[number % len(plan.attacks)]) for number in range(num_spoof)]
    for number, attack in bonafide + spoofed:
        speaker = plan.speakers[number % len(plan.speakers)]
        codec = plan.codecs[number % len(plan.codecs)]
        transmission = str(rng.choice(LA_TRANSMISSIONS)) if plan.part == "LA" and codec != "none" else "-"
        yield DemoTrial(plan.part, plan.subset, "", speaker, attack, codec, transmission)


def _draw_names(part: str, count: int, rng: np.random.Generator) -> list[str]:
    """Returns names in the style of the real corpora, which say nothing of the class."""
    if part == "In-the-Wild":
        return [f"{number}.wav" for number in range(count)]
    prefix = {"train": "LA_T", "dev": "LA_D", "DF": "DF_E"}.get(part, "LA_E")
    return [f"{prefix}_{number}" for number in 1_000_000 + rng.choice(9_000_000, size=count, replace=False)]
