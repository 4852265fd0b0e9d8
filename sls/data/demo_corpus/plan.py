"""Which trials the demo corpus has: how many, of whom, under which attack and condition."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sls.config import SAMPLE_RATE_HZ

Part = Literal["train", "dev", "LA", "DF", "In-the-Wild"]

PARTS: tuple[Part, ...] = ("train", "dev", "LA", "DF", "In-the-Wild")
SEEN_ATTACKS = ("A01", "A02", "A03", "A04")
UNSEEN_ATTACKS = ("A05", "A06", "A07", "A08")
BONAFIDE = "-"
LA_CODECS = ("none", "alaw", "pstn", "g722", "ulaw", "gsm", "opus")
LA_TRANSMISSIONS = ("ita_tx", "sin_tx", "loc_tx")
DF_MP3_AND_M4A = ("low_mp3", "high_mp3", "low_m4a", "high_m4a")
DF_COMPRESSIONS = ("nocodec", *DF_MP3_AND_M4A, "low_ogg", "high_ogg", "mp3m4a", "oggm4a")
WILD_RATES_HZ = (16_000, 22_050, 44_100, 8_000)

SPEECH_S = (1.2, 4.0)
SILENCE_S = (0.1, 0.5)


@dataclass(frozen=True)
class PartPlan:
    """The make-up of one subset of a part; the counts are those of scale 1."""

    part: Part
    subset: str
    num_bonafide: int
    num_spoof: int
    attacks: tuple[str, ...]
    codecs: tuple[str, ...]
    speakers: tuple[str, ...]


@dataclass(frozen=True)
class DemoTrial:
    """One recording to be made."""

    part: Part
    subset: str
    name: str
    speaker: str
    attack: str
    codec: str
    transmission: str
    rate_hz: int
    speech_s: float
    lead_s: float
    trail_s: float

    @property
    def is_bonafide(self) -> bool:
        """Whether no attack made it."""
        return self.attack == BONAFIDE

    @property
    def trim(self) -> str:
        """The corpora's word for whether the silences were cut off."""
        return "trim" if self.subset == "hidden" else "notrim"


_TRAIN_SPEAKERS = tuple(f"LA_{number:04d}" for number in range(79, 91))
_DEV_SPEAKERS = tuple(f"LA_{number:04d}" for number in range(69, 75))
_EVAL_SPEAKERS = tuple(f"LA_{number:04d}" for number in range(1, 13))
_WILD_SPEAKERS = tuple(f"Demo Voice {number}" for number in range(1, 9))
_CLEAN = ("none",)

PLANS = (
    PartPlan("train", "train", 80, 120, SEEN_ATTACKS, _CLEAN, _TRAIN_SPEAKERS),
    PartPlan("dev", "dev", 40, 60, SEEN_ATTACKS, _CLEAN, _DEV_SPEAKERS),
    PartPlan("LA", "eval", 56, 84, UNSEEN_ATTACKS, LA_CODECS, _EVAL_SPEAKERS),
    PartPlan("LA", "progress", 10, 14, UNSEEN_ATTACKS, LA_CODECS, _EVAL_SPEAKERS[:4]),
    PartPlan("LA", "hidden", 8, 12, UNSEEN_ATTACKS, LA_CODECS, _EVAL_SPEAKERS),
    PartPlan("DF", "eval", 56, 84, UNSEEN_ATTACKS, DF_COMPRESSIONS, _EVAL_SPEAKERS),
    PartPlan("DF", "progress", 10, 14, UNSEEN_ATTACKS, DF_COMPRESSIONS, _EVAL_SPEAKERS[:4]),
    PartPlan("DF", "hidden", 8, 12, UNSEEN_ATTACKS, DF_COMPRESSIONS, _EVAL_SPEAKERS),
    PartPlan("In-the-Wild", "eval", 50, 70, UNSEEN_ATTACKS, _CLEAN, _WILD_SPEAKERS),
)


def plan_corpus(seed: int, scale: float) -> list[DemoTrial]:
    """Returns every trial, those of one part in the order of its protocol.

    Raises:
        ValueError: The scale is not a positive number.
    """
    if not 0 < scale < math.inf:
        raise ValueError(f"demo corpus: scale: found {scale}, expected a positive number")
    trials: list[DemoTrial] = []
    for number, part in enumerate(PARTS):
        rng = np.random.default_rng([seed, number])
        drawn = [trial for plan in PLANS if plan.part == part for trial in _draw_subset(plan, scale, rng)]
        shuffled = [drawn[index] for index in rng.permutation(len(drawn))]
        names = _draw_names(part, len(drawn), rng)
        trials += [replace(trial, name=name) for trial, name in zip(shuffled, names, strict=True)]
    return trials


def count_trials(trials: Sequence[DemoTrial]) -> dict[str, dict[str, dict[str, int]]]:
    """Counts `trials`, `bonafide` and `spoof` by part and, within it, by subset and in `all`."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for trial in trials:
        for subset in ("all", trial.subset) if trial.part in ("LA", "DF") else ("all",):
            cell = counts.setdefault(trial.part, {}).setdefault(
                subset, {"trials": 0, "bonafide": 0, "spoof": 0}
            )
            cell["trials"] += 1
            cell["bonafide" if trial.is_bonafide else "spoof"] += 1
    return counts


def _draw_subset(plan: PartPlan, scale: float, rng: np.random.Generator) -> Iterator[DemoTrial]:
    """Yields the subset's trials; attacks, codecs and speakers take turns, so that every one of them occurs."""
    for number in range(max(2, round(plan.num_bonafide * scale))):
        yield _draw_trial(plan, BONAFIDE, number, rng)
    for number in range(max(len(plan.attacks), round(plan.num_spoof * scale))):
        yield _draw_trial(plan, plan.attacks[number % len(plan.attacks)], number, rng)


def _draw_trial(plan: PartPlan, attack: str, number: int, rng: np.random.Generator) -> DemoTrial:
    codec = plan.codecs[number % len(plan.codecs)]
    is_sent = plan.part == "LA" and codec != "none"
    is_trimmed = plan.subset == "hidden"
    return DemoTrial(
        part=plan.part,
        subset=plan.subset,
        name="",
        speaker=plan.speakers[number % len(plan.speakers)],
        attack=attack,
        codec=codec,
        transmission=str(rng.choice(LA_TRANSMISSIONS)) if is_sent else "-",
        rate_hz=WILD_RATES_HZ[number % len(WILD_RATES_HZ)] if plan.part == "In-the-Wild" else SAMPLE_RATE_HZ,
        speech_s=rng.uniform(*SPEECH_S),
        lead_s=0.0 if is_trimmed else rng.uniform(*SILENCE_S),
        trail_s=0.0 if is_trimmed else rng.uniform(*SILENCE_S),
    )


def _draw_names(part: Part, count: int, rng: np.random.Generator) -> list[str]:
    """Returns names in the style of the real corpora, which say nothing of the class."""
    if part == "In-the-Wild":
        return [f"{number}.wav" for number in range(count)]
    prefix = {"train": "LA_T", "dev": "LA_D", "LA": "LA_E", "DF": "DF_E"}[part]
    numbers = rng.choice(9_000_000, size=count, replace=False) + 1_000_000
    return [f"{prefix}_{number}" for number in numbers]
