"""Measures by simulation how often intervals hold the truth, and how often equal systems are told apart.

    python -m benchmarks.coverage --corpora 400

Corpora are drawn from a model whose truth is known, and go through `compare` as score files do. A score is the sum of
the distance of the classes and of normal effects of the speaker, of the attack (of a spoofed trial) and of the trial;
two systems share half the variance of each. The ASV accepts each attack in its own measure. Truth is what infinitely
many trials, speakers and attacks would give: a corpus of 13 attacks stands for those that might have been chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
from scipy import special

from sls.data.tables.asv_scores import AsvScores, Role
from sls.data.tables.columns import Columns, Texts
from sls.data.tables.protocols import Protocol
from sls.data.tables.score_files import Coverage, JoinedScores, ScoreTable
from sls.engine.evaluation.comparison import compare
from sls.engine.evaluation.comparison_results import Comparison
from sls.engine.evaluation.evaluation import EvaluationPlan
from sls.engine.evaluation.measures import TITLES
from sls.metrics.dcf import DetectionCosts
from sls.metrics.tdcf import AsvErrorRates, LinearCost, revised_cost

METRICS = ("eer", "min_tdcf", "min_dcf")
EERS = (0.01, 0.04, 0.12)
COMMON_SHARE = 0.5
"""Share of the variance of every effect that both systems have in common."""
OWN_SPEAKER_SD = 0.3
"""Of what a speaker's bona fide and spoofed trials do not share."""
ASV_TARGET, ASV_NONTARGET, ASV_SPOOF, ASV_ATTACK_SD = 2.0, -2.0, 0.7, 0.5
NUM_ASV_TRIALS = 4_000
LARGE = 100_000
"""Spoofed trials of a design of which fewer corpora are drawn."""
WORSE = 1.5
"""The power is that against a system with so many times the EER."""


@dataclass(frozen=True)
class Layout:
    """Speaker and attack of each trial, as codes; shape `(trials of the class,)`."""

    bonafide_speakers: np.ndarray
    spoof_speakers: np.ndarray
    attacks: np.ndarray


@dataclass(frozen=True)
class Design:
    """A corpus of a stated shape."""

    name: str
    layout: Callable[[], Layout]
    eer: float
    """True EER of both systems, fraction."""
    speaker_sd: float = 0.4
    attack_sd: float = 0.6
    known: tuple[str, ...] = ("bonafide speakers", "spoof speakers", "attacks")
    """What the key says."""


@dataclass
class Tally:
    """What happened in all corpora to one measure."""

    below: list[bool] = field(default_factory=list)
    """Whether the whole interval lay below the truth."""
    above: list[bool] = field(default_factory=list)
    distinguished: list[bool] = field(default_factory=list)
    """Verdicts on equal systems; none where none was given."""
    found: list[bool] = field(default_factory=list)
    """Verdicts on a worse system."""
    over: str = ""


def independent(num_bonafide: int, num_spoof: int) -> Callable[[], Layout]:
    """Trials that share nothing: every one of its own."""
    spoof = np.arange(num_spoof)
    return lambda: Layout(np.arange(num_bonafide), num_bonafide + spoof, np.zeros_like(spoof))


def crossed(num_speakers: int, num_attacks: int, bonafide: int, spoof: int) -> Callable[[], Layout]:
    """Every speaker with so many bona fide trials, and so many spoofed ones by each attack."""

    def make() -> Layout:
        speakers = np.arange(num_speakers)
        attacks = np.tile(np.repeat(np.arange(num_attacks), spoof), num_speakers)
        return Layout(np.repeat(speakers, bonafide), np.repeat(speakers, num_attacks * spoof), attacks)

    return make


def few_bonafide_speakers() -> Layout:
    """Thirty speakers, all spoofed by eight attacks, bona fide trials of two of them."""
    spoofed = crossed(30, 8, 1, 5)()
    return Layout(np.repeat([0, 1], 200), spoofed.spoof_speakers, spoofed.attacks)


def unequal_blocks() -> Layout:
    """The shape of ASVspoof 2021 DF, a tenth of its size: most spoofed trials lie in four blocks of few speakers."""
    rng = np.random.default_rng(1)
    parts = [(0, 48, 13, 1_500), *((48 + 5 * block, 4 + block % 3, 22, 2_300) for block in range(4))]
    speakers, attacks, first = [], [], 0
    for start, num_speakers, num_attacks, size in parts:
        speakers.append(start + rng.integers(num_speakers, size=size))
        attacks.append(first + rng.integers(num_attacks, size=size))
        first += num_attacks
    return Layout(rng.integers(68, size=1_500), np.concatenate(speakers), np.concatenate(attacks))


def unequal_speakers() -> Layout:
    """The shape of In-the-Wild, a fifth of its size: 54 speakers with some to some hundred trials."""
    rng = np.random.default_rng(2)
    shares = np.exp(0.8 * rng.normal(size=(2, 54)))
    bonafide, spoof = (
        rng.choice(54, size, p=share / share.sum())
        for size, share in zip((4_000, 2_400), shares, strict=True)
    )
    return Layout(bonafide, spoof, np.zeros(spoof.size, dtype=int))


def made_of(num_bonafide: int, num_spoof: int, speakers: int, attacks: int) -> Callable[[], Layout]:
    """A small corpus in which speakers and attacks take turns."""
    spoof = np.arange(num_spoof)
    return lambda: Layout(np.arange(num_bonafide) % speakers, spoof // attacks % speakers, spoof % attacks)


BOTH_SPEAKERS, HALF = ("bonafide speakers", "spoof speakers"), ("bonafide speakers", "attacks")
INDEPENDENT_SIZES = (
    *((60, 90), (400, 1_000), (1_500, 13_000), (14_816, 133_360)),
    *((100, 10_000), (14_869, 300)),  # of one class few, as in cells of a breakdown
)
SHAPES = {
    "48 speakers x 13 attacks (LA)": crossed(48, 13, 20, 6),
    "20 x 6 (2019 dev)": crossed(20, 6, 40, 15),
    "12 x 5": crossed(12, 5, 20, 10),
    "10 x 4": crossed(10, 4, 20, 10),
    "30 x 2": crossed(30, 2, 20, 20),
    "2 x 13": crossed(2, 13, 200, 20),
    "3 x 13": crossed(3, 13, 150, 20),
    "5 x 13": crossed(5, 13, 100, 10),
    "bona fide trials of 2 of 30 speakers, 8 attacks": few_bonafide_speakers,
    "unequal blocks (DF)": unequal_blocks,
    "minispoof: 78 x 4, 248 / 372 trials": made_of(248, 372, 78, 4),
    "small: 12 x 4, 56 / 84 trials": made_of(56, 84, 12, 4),
}
PARTLY_KNOWN = (
    ("54 unequal speakers (In-the-Wild)", unequal_speakers, 0.6, 0.0, BOTH_SPEAKERS),
    ("13 attacks, speakers not known", crossed(200, 13, 5, 1), 0.0, 0.6, ("attacks",)),
    ("48 x 13, speakers of bona fide trials alone", crossed(48, 13, 20, 6), 0.3, 0.6, HALF),
)


def list_designs() -> list[Design]:
    """Returns every design, each at its EERs."""
    sizes = {f"{one:,} / {two:,} independent trials": independent(one, two) for one, two in INDEPENDENT_SIZES}
    return [
        *(Design(name, layout, eer, 0.0, 0.0, ()) for name, layout in sizes.items() for eer in EERS),
        *(Design(name, layout, eer) for name, layout in SHAPES.items() for eer in EERS),
        *(Design(name, layout, eer, *rest) for eer in EERS for name, layout, *rest in PARTLY_KNOWN),
    ]


def spreads(design: Design) -> tuple[float, float]:
    """Returns the standard deviation of bona fide and of spoofed scores."""
    own = OWN_SPEAKER_SD if design.speaker_sd else 0.0
    bonafide = 1 + design.speaker_sd**2 + own**2
    return math.sqrt(bonafide), math.sqrt(bonafide + design.attack_sd**2)


def distance(design: Design, eer: float) -> float:
    """Returns how far apart the classes lie for an EER."""
    return float(-special.ndtri(eer) * sum(spreads(design)))


def find_truth(design: Design) -> dict[str, float]:
    """Returns EER and least costs of infinitely many trials, speakers and attacks."""
    bonafide_sd, spoof_sd = spreads(design)
    apart = distance(design, design.eer)
    thresholds = np.linspace(-6, apart + 6, 200_001)
    frr = special.ndtr((thresholds - apart) / bonafide_sd)
    far = special.ndtr(-thresholds / spoof_sd)
    attack_sd = ASV_ATTACK_SD if design.attack_sd else 0.0
    error = float(special.ndtr(ASV_NONTARGET))  # at the threshold 0
    accepted = float(special.ndtr(ASV_SPOOF / math.sqrt(1 + attack_sd**2)))
    tandem = revised_cost(AsvErrorRates(error, error, accepted, 0.0))
    costs: dict[str, LinearCost] = {"min_tdcf": tandem, "min_dcf": DetectionCosts().linear_cost()}
    return {"eer": design.eer} | {name: float(cost.of_rates(frr, far).min()) for name, cost in costs.items()}


def draw_systems(
    design: Design, layout: Layout, eers: tuple[float, float], rng: np.random.Generator
) -> dict[str, JoinedScores]:
    """Draws the scores of two systems on the same trials."""
    num_speakers = 1 + max(int(layout.bonafide_speakers.max()), int(layout.spoof_speakers.max()))

    def effects(size: int, sd: float) -> np.ndarray:
        common, own = rng.normal(size=size), rng.normal(size=(2, size))
        return sd * (math.sqrt(COMMON_SHARE) * common + math.sqrt(1 - COMMON_SHARE) * own)

    own_sd = OWN_SPEAKER_SD if design.speaker_sd else 0.0
    speakers = effects(num_speakers, design.speaker_sd)
    of_bonafide, of_spoof = effects(num_speakers, own_sd), effects(num_speakers, own_sd)
    attacks = effects(int(layout.attacks.max()) + 1, design.attack_sd)
    bonafide = (speakers + of_bonafide)[:, layout.bonafide_speakers] + effects(
        layout.bonafide_speakers.size, 1
    )
    spoof = (speakers + of_spoof)[:, layout.spoof_speakers] + effects(layout.spoof_speakers.size, 1)
    spoof += attacks[:, layout.attacks]
    return {
        name: _join(design, layout, np.concatenate([bonafide[place] + distance(design, eer), spoof[place]]))
        for place, (name, eer) in enumerate(zip(("one", "two"), eers, strict=True))
    }


def _join(design: Design, layout: Layout, scores: np.ndarray) -> JoinedScores:
    num_bonafide = layout.bonafide_speakers.size
    labels = (np.arange(scores.size) < num_bonafide).astype(np.int8)
    sides = zip(BOTH_SPEAKERS, (layout.bonafide_speakers, layout.spoof_speakers), strict=True)
    fields = {}
    if set(BOTH_SPEAKERS) & set(design.known):
        fields["speaker"] = np.concatenate(
            [_name("S", codes) if side in design.known else _fill("-", codes.size) for side, codes in sides]
        )
    if "attacks" in design.known:
        fields["attack"] = np.concatenate([_fill("-", num_bonafide), _name("A", layout.attacks)])
    trials = Texts.encode([str(number) for number in range(scores.size)])
    key = Protocol(Path("key.txt"), "", trials, labels, Columns.encode(fields))
    counts = Coverage(scores.size, scores.size, scores.size)
    return JoinedScores(scores, key, counts, ScoreTable(trials, scores, Path("scores.txt"), ""))


def _name(letter: str, codes: np.ndarray) -> np.ndarray:
    names = np.array([f"{letter}{code}" for code in range(int(codes.max()) + 1)], dtype=object)
    return np.asarray(names[codes])


def _fill(value: str, size: int) -> np.ndarray:
    return np.full(size, value, dtype=object)


def draw_asv(design: Design, layout: Layout, rng: np.random.Generator) -> AsvScores:
    """Draws how the ASV scores each attack; its trials stand at quantiles, so that their own noise plays no part."""
    num_attacks = int(layout.attacks.max()) + 1
    means = ASV_SPOOF + (ASV_ATTACK_SD if design.attack_sd else 0.0) * rng.normal(size=num_attacks)
    trials, each = (
        special.ndtri((np.arange(size) + 0.5) / size) for size in (NUM_ASV_TRIALS, NUM_ASV_TRIALS // 10)
    )
    scores = [trials + ASV_TARGET, trials + ASV_NONTARGET, *(each + mean for mean in means)]
    roles = np.repeat(
        [Role.TARGET, Role.NONTARGET, Role.SPOOF], [trials.size, trials.size, each.size * num_attacks]
    )
    attacks = _name("A", np.repeat(np.arange(num_attacks), each.size))
    fields = Columns.encode({"attack": np.concatenate([_fill("bonafide", 2 * trials.size), attacks])})
    return AsvScores(Path("asv.txt"), "", np.concatenate(scores), roles.astype(np.int8), fields)


def simulate(design: Design, num_corpora: int, seed: int = 1) -> dict[str, Tally]:
    """Returns what happened in so many corpora of a design, by measure."""
    rng, layout, truth = np.random.default_rng(seed), design.layout(), find_truth(design)
    tallies = {name: Tally() for name in METRICS}
    worse = min(WORSE * design.eer, 0.45)
    for _ in range(num_corpora):
        asv = draw_asv(design, layout, rng)
        plan = EvaluationPlan("simulated", metrics=METRICS, asv=asv)
        equal, unequal = (
            compare(draw_systems(design, layout, (design.eer, eer), rng), plan, num_disagreements=0)
            for eer in (design.eer, worse)
        )
        for name, tally in tallies.items():
            interval = equal.evaluations[0].measure(name).intervals[-1]
            tally.below.append(interval.high < truth[name])
            tally.above.append(interval.low > truth[name])
            tally.over = interval.over
            tally.distinguished += _read_verdicts(equal, name)
            tally.found += _read_verdicts(unequal, name)
    return tallies


def _read_verdicts(comparison: Comparison, name: str) -> list[bool]:
    tested = [found.tested for found in comparison.differences if found.measure == name]
    return [found.p_value <= 0.05 for found in tested if found.p_value is not None]


HEADINGS = (
    *("design", "measure, truth", "over", "held, %", "too low, %", "too high, %"),
    *("equal told apart, %", "worse found, %"),
)


def format_row(design: Design, name: str, tally: Tally, truth: float) -> str:
    """Returns a line of the table."""
    below, above = (100 * np.mean(side) for side in (tally.below, tally.above))
    covered = 100 - below - above
    error = math.sqrt(covered * (100 - covered) / len(tally.below))
    shown = f"{100 * truth:.3g} %" if name == "eer" else f"{truth:.3f}"
    cells = [design.name, f"{TITLES[name]} {shown}", tally.over, f"{covered:.1f} ± {error:.1f}"]
    cells += [f"{below:.1f}", f"{above:.1f}"]
    for found in (tally.distinguished, tally.found):
        share = f"{100 * np.mean(found):.1f}" if found else "no verdict"
        cells.append("" if name == "min_dcf" else share)  # it is not compared
    return f"| {' | '.join(cells)} |"


@click.command()
@click.option(
    "--corpora", default=400, show_default=True, help="corpora of each design; a quarter of the largest one"
)
@click.option("--only", default="", help="designs whose name holds this")
@click.option("--eer", default=0.0, help="designs with this EER alone")
def main(corpora: int, only: str, eer: float) -> None:
    """Simulates each design and prints a table."""
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
    for design in list_designs():
        if only not in design.name or (eer and design.eer != eer):
            continue
        is_large = design.layout().attacks.size > LARGE
        tallies = simulate(design, corpora // 4 if is_large else corpora)
        truth = find_truth(design)
        for name, tally in tallies.items():
            print(format_row(design, name, tally, truth[name]), flush=True)


if __name__ == "__main__":
    main()
