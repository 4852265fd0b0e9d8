"""What a comparison yields, and its verdict in a sentence."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from sls.engine.evaluation.measures import FRACTION, TITLES, format_interval, format_number, format_p_value
from sls.engine.evaluation.results import Evaluation
from sls.metrics.paired import Tested, TestedOverSeeds

INDEPENDENT = (
    "the key knows no speakers and no attacks, so that trials were taken as independent: where those of one speaker "
    "or attack are alike, the interval is too narrow and p too small"
)


@dataclass(frozen=True)
class Difference:
    """One measure of two systems on the same trials."""

    first: str
    second: str
    measure: str
    value: float
    """First minus second; below 0 the first is better."""
    unit: str
    over_trials: Tested
    over_clusters: Tested | None
    """Over speakers, attacks or both, by what the key knows of each class."""
    verdict: str = ""

    @property
    def tested(self) -> Tested:
        """What the verdict rests on."""
        return self.over_clusters or self.over_trials


@dataclass(frozen=True)
class Disagreement:
    """A trial that two systems rank very differently."""

    trial: str
    label: str
    ranks: Mapping[str, float]
    """By system, the share of all trials that score lower, from 0 to 1."""
    spread: float
    """Largest minus smallest rank."""
    fields: Mapping[str, str]
    """What the key says of the trial."""


@dataclass(frozen=True)
class Comparison:
    """Two or more systems on the same trials of one track."""

    track: str
    subset: str
    corpus: str
    evaluations: tuple[Evaluation, ...]
    """Of each system, over the common trials."""
    differences: tuple[Difference, ...]
    disagreements: tuple[Disagreement, ...]
    num_common: int
    notes: tuple[str, ...] = ()
    """What a reader must know, such as that only common trials were compared."""

    @property
    def verdicts(self) -> tuple[str, ...]:
        """The sentence of each pair, for the EER."""
        return tuple(difference.verdict for difference in self.differences if difference.measure == "eer")

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as JSON can hold it; rates are fractions, ranks are shares."""
        content = asdict(replace(self, evaluations=()))
        content["evaluations"] = [evaluation.to_dict() for evaluation in self.evaluations]
        content["units"] = {
            "value, interval": "as `unit` of the difference says",
            "p_value, p_value_holm": "probability",
            "ranks, spread": "share of trials",
        }
        return content


def say_verdict(difference: Difference, track: str) -> str:
    """Returns a difference as a sentence; it rests on speakers or attacks where those are known."""
    is_rate = difference.unit == FRACTION
    points = " points" if is_rate else ""
    better, worse = difference.first, difference.second
    if difference.value > 0:
        better, worse = worse, better
    title = TITLES[difference.measure]
    if difference.value == 0:
        lead = f"{difference.first} and {difference.second} have the same {title} on {track}"
    else:
        measured = "" if is_rate else f" in {title}"
        amount = f"{format_number(abs(difference.value), difference.unit)}{points}"
        lead = f"{better} is better than {worse} on {track}{measured} by {amount}"
    tested = difference.tested
    interval = tested.interval
    # The interval is told in the direction of the sentence: how much worse the second one is.
    told = interval if difference.value > 0 else replace(interval, low=-interval.high, high=-interval.low)
    ends = f"{format_interval(told, difference.unit)}{points}"
    basis = [f"over {interval.over}{_say_seeds(tested)}"]
    if tested.p_value is not None and tested.p_value_holm is not None:
        basis.append(_say_p_value(tested.p_value))
        if tested.p_value_holm != tested.p_value:
            basis.append(f"adjusted for all pairs {_say_p_value(tested.p_value_holm)}")
    caution = "" if interval.is_clustered else f"; {INDEPENDENT}"
    if isinstance(tested, TestedOverSeeds) and tested.seed_share is not None:
        share = round(100 * tested.seed_share)
        caution = f"; of its variance {share} % is the seeds' and {100 - share} % the trials'{caution}"
    return (
        f"{lead}; the {100 * interval.level:g} % interval of the difference is {ends} "
        f"({', '.join(basis)}): {tested.conclusion}{caution}"
    )


def _say_seeds(tested: Tested) -> str:
    if not isinstance(tested, TestedOverSeeds):
        return ""
    one, two = tested.num_seeds
    if tested.is_paired:
        return f" and {one} seeds, the same of both"
    return f" and {one} seeds of each" if one == two else f", and {one} and {two} seeds"


def _say_p_value(value: float) -> str:
    shown = format_p_value(value)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"
