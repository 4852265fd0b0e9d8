"""What each condition costs a system, and the sentences that say so."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sls.data.conditions.conditions import Condition
from sls.engine.evaluation.comparison_results import Difference
from sls.engine.evaluation.measures import (
    FRACTION,
    Measure,
    Measured,
    format_interval,
    format_measure,
    format_number,
)
from sls.quotation import count_of

SILENCE_TRIMMED, SILENCE_ALONE = "silence-trimmed", "silence-alone"
"""Kinds of conditions by which one hears whether a detector listens to the silence around speech."""
CHANCE = 0.5
"""The EER of what knows nothing."""
SHOWN_FLIPS = 5
"""Of each condition, in the report; the file of them has more."""


@dataclass(frozen=True)
class Flip:
    """A trial that is decided otherwise under a condition, at the threshold of the clean EER."""

    trial: str
    label: str
    clean_score: float
    degraded_score: float


@dataclass(frozen=True)
class ConditionResult(Measured):
    """The trials of a track under one condition, held against the clean ones."""

    condition: Condition
    measures: tuple[Measure, ...]
    """EER, its difference to that of clean recordings, and miss and false alarm at the threshold of that."""
    difference: Difference
    """Of the EERs: the condition minus clean, trial by trial."""
    num_flips: int
    flips: tuple[Flip, ...]
    """Those whose score moved most, the furthest first."""

    @property
    def name(self) -> str:
        """The condition's."""
        return self.condition.name

    @property
    def is_control(self) -> bool:
        """Whether it holds no speech, so that chance is what to expect of it, and not what clean recordings give."""
        return self.condition.kind == SILENCE_ALONE


@dataclass(frozen=True)
class RobustnessReport:
    """A system on the same trials of one track, clean and under several conditions."""

    system: str
    track: str
    subset: str
    corpus: str
    num_bonafide: int
    num_spoof: int
    clean: Measure
    """The EER of clean recordings."""
    threshold: float
    """A score at or below it is rejected: that of the clean EER, with trials that tie decided alike."""
    results: tuple[ConditionResult, ...]
    """The worst first, controls last."""
    notes: tuple[str, ...] = ()
    """What could not be judged, and why."""

    @property
    def held(self) -> tuple[ConditionResult, ...]:
        """Those that are held against clean recordings: all but controls."""
        return tuple(found for found in self.results if not found.is_control)

    @property
    def verdicts(self) -> tuple[str, ...]:
        """What is worst, and whether the detector hears silence."""
        of_silence = (_say_silence(self.system, found) for found in self.results)
        return tuple(filter(None, [self._say_worst(), *of_silence]))

    def _say_worst(self) -> str:
        if not self.held:
            return ""
        worst, *others = self.held
        told = [found.name for found in self.held if found.difference.tested.conclusion == "distinguishable"]
        lead = f"{self.system}, worst of {count_of(len(self.held), 'condition')}: {worst.name}, "
        errors = f"EER {format_measure(worst.value('eer'))} instead of {format_measure(self.clean.value)}. "
        of_them = f"; distinguishable from clean, of all: {', '.join(told)}" if others and told else ""
        return lead + errors + worst.difference.verdict + of_them

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as JSON can hold it; rates are fractions, as `unit` of each measure says."""
        content = asdict(self)
        for item, found in zip(content["results"], self.results, strict=True):
            item["flips"] = item["flips"][:SHOWN_FLIPS]
            item["condition"]["description"] = found.condition.description
        return {**content, "verdicts": self.verdicts}


def _say_silence(system: str, found: ConditionResult) -> str:
    """Returns what a condition of silence says of a detector; empty of any other.

    The sentence is of this one condition, so that its own interval decides, not one for all conditions.
    """
    tested, eer = found.difference.tested, found.measures[0]
    if found.is_control:
        interval, middle = eer.intervals[-1], CHANCE
        lead = f"From the silence around speech alone ({found.name}) the EER is {format_measure(eer.value)}"
        aside, what = ", where 50 % is chance", f"{system} hears silence"
        told = (what, f"{what}, and takes that of spoofed recordings for bona fide")
    elif found.condition.kind == SILENCE_TRIMMED:
        interval, middle = tested.interval, 0.0
        moved = format_number(found.difference.value, FRACTION)
        lead = f"Without the silence around speech ({found.name}) the EER moves by {moved} points"
        aside, what = "", f"{system} relies on that silence"
        told = (f"that silence misleads {system}", what)
    else:
        return ""
    lead += f", interval {format_interval(interval, FRACTION)} over {interval.over}{aside}"
    if tested.p_value is None:
        return f"{lead}: {tested.shortage} whether {what}"
    if interval.low == interval.high == middle:
        return f"{lead}: nothing moves, as where recordings have no such silence, and nothing is shown"
    if interval.low <= middle <= interval.high:
        return f"{lead}: nothing shows that {what}; as far as the interval goes it may"
    return f"{lead}: {told[interval.low > middle]}"
