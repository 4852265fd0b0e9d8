"""Measures by simulation how often the interval of a difference of recipes holds the truth, seeds among its causes.

    python -m benchmarks.coverage_seeds --studies 1000

Scores are drawn as those of `benchmarks.coverage`, for several trainings of each of two recipes: the distance of the
classes is moved anew for each seed, so that its true EER varies by a stated share, and half of what a recipe makes of
the trials by itself is that of each seed. Their differences are tested over speakers and attacks as `compare` does.
Truth is the mean over infinitely many seeds, trials, speakers and attacks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import click
import numpy as np
from scipy import special

from benchmarks.coverage import COMMON_SHARE, OWN_SPEAKER_SD, Design, Layout, crossed, distance, spreads
from sls.engine.evaluation.groups import Factor, sample
from sls.metrics.eer import rank_trials
from sls.metrics.intervals import Estimate, estimate_eer
from sls.metrics.paired import MIN_SEEDS, SeededEstimate, Tested, TestedOverSeeds, compare_pair

NUM_SEEDS = (2, 3, 5, 10)
SEED_SDS = (0.0, 0.1, 0.3, 0.6)
"""Standard deviation of the true EER over seeds, as a share of the EER."""
WORSE = 1.5
"""How many times the EER the other recipe has, where it is the worse one."""
DESIGN = Design("48 speakers x 13 attacks (LA)", crossed(48, 13, 20, 6), 0.04)


@dataclass
class Tally:
    """What happened in all studies of one kind."""

    equal: list[TestedOverSeeds] = field(default_factory=list)
    """Of recipes that are worth the same, whose difference is 0."""
    unequal: list[TestedOverSeeds] = field(default_factory=list)
    """Of recipes of which one is worse."""


def move_distance(eer: float, share: float) -> float:
    """Returns by what standard deviation the distance of the classes moves the EER by such a share of it."""
    slope = float(np.exp(-(special.ndtri(eer) ** 2) / 2) / math.sqrt(2 * math.pi)) / sum(spreads(DESIGN))
    return share * eer / slope


def mean_eer(eer: float, share: float) -> float:
    """Returns the mean of the true EER over infinitely many seeds."""
    moved = move_distance(eer, share) * special.ndtri((np.arange(10_000) + 0.5) / 10_000)
    return float(special.ndtr(-(distance(DESIGN, eer) + moved) / sum(spreads(DESIGN))).mean())


def draw_recipes(
    layout: Layout, eers: tuple[float, float], num_seeds: int, share: float, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Draws the scores of each recipe, `(seeds, trials)`, bona fide first."""
    num_speakers = 1 + int(layout.bonafide_speakers.max())

    def effects(size: int, sd: float) -> np.ndarray:
        """What all have in common, what each recipe, and what each seed has by itself: `(2, seeds, size)`."""
        parts = (COMMON_SHARE, (1 - COMMON_SHARE) / 2, (1 - COMMON_SHARE) / 2)
        shapes = ((1, 1, size), (2, 1, size), (2, num_seeds, size))
        drawn = (math.sqrt(part) * rng.normal(size=shape) for part, shape in zip(parts, shapes, strict=True))
        return np.asarray(sd * sum(drawn))

    speakers = effects(num_speakers, DESIGN.speaker_sd)
    of_bonafide, of_spoof = (effects(num_speakers, OWN_SPEAKER_SD) for _ in range(2))
    attacks = effects(int(layout.attacks.max()) + 1, DESIGN.attack_sd)
    bonafide = (speakers + of_bonafide)[..., layout.bonafide_speakers]
    bonafide = bonafide + effects(layout.bonafide_speakers.size, 1)
    spoof = (speakers + of_spoof)[..., layout.spoof_speakers] + attacks[..., layout.attacks]
    spoof = spoof + effects(layout.spoof_speakers.size, 1)
    found = {}
    for place, (name, eer) in enumerate(zip(("one", "two"), eers, strict=True)):
        moved = distance(DESIGN, eer) + move_distance(eer, share) * rng.normal(size=(num_seeds, 1))
        found[name] = np.concatenate([bonafide[place] + moved, spoof[place]], axis=1)
    return found


class Judge:
    """Turns scores of trials of one layout into estimates over speakers and attacks."""

    def __init__(self, layout: Layout) -> None:
        num_bonafide, num_spoof = layout.bonafide_speakers.size, layout.attacks.size
        self.is_bonafide = np.arange(num_bonafide + num_spoof) < num_bonafide
        speakers = np.concatenate([layout.bonafide_speakers, layout.spoof_speakers])
        attacks = np.concatenate([np.zeros(num_bonafide, dtype=int), 1 + layout.attacks])
        self.speakers, self.attacks = (
            Factor(name, ("-", *map(str, range(1, codes.max() + 1))), codes, name == "attack")
            for name, codes in (("speaker", speakers + 1), ("attack", attacks))
        )

    def estimate(self, scores: np.ndarray) -> Estimate:
        """Returns the EER of a training, and how speakers and attacks move it."""
        ranking = rank_trials(scores, self.is_bonafide)
        return estimate_eer(ranking, sample(ranking, self.speakers, self.attacks, is_shared=True))


def compare_recipes(recipes: list[list[Estimate]], num_seeds: int, is_paired: bool) -> Tested:
    """Tests two recipes by their first trainings."""
    names = tuple(map(str, range(num_seeds))) if is_paired else ()
    first, second = (SeededEstimate(tuple(found[:num_seeds]), names) for found in recipes)
    return compare_pair(first, second)


def simulate(share: float, num_studies: int, seed: int = 1) -> dict[tuple[int, bool] | None, Tally]:
    """Returns what happened in so many studies, by number of seeds and whether paired; None: of one seed each."""
    rng, layout = np.random.default_rng(seed), DESIGN.layout()
    judge = Judge(layout)
    tallies: dict[tuple[int, bool] | None, Tally] = {None: Tally()}
    for _ in range(num_studies):
        for worse, place in ((DESIGN.eer, "equal"), (WORSE * DESIGN.eer, "unequal")):
            drawn = draw_recipes(layout, (DESIGN.eer, worse), max(NUM_SEEDS), share, rng)
            recipes = [[judge.estimate(scores) for scores in found] for found in drawn.values()]
            getattr(tallies[None], place).append(compare_pair(recipes[0][0], recipes[1][0]))
            for num_seeds in NUM_SEEDS:
                for is_paired in (True, False):
                    tally = tallies.setdefault((num_seeds, is_paired), Tally())
                    getattr(tally, place).append(compare_recipes(recipes, num_seeds, is_paired))
    return tallies


def format_rows(share: float, tallies: dict[tuple[int, bool] | None, Tally]) -> Iterator[str]:
    """Yields the lines of a table."""
    truth = mean_eer(DESIGN.eer, share) - mean_eer(WORSE * DESIGN.eer, share)
    for kind, tally in tallies.items():
        seeds = "1, trials alone" if kind is None else f"{kind[0]}, {'paired' if kind[1] else 'not paired'}"
        held, held_worse = (
            100 * np.mean([found.interval.low <= value <= found.interval.high for found in tested])
            for tested, value in ((tally.equal, 0.0), (tally.unequal, truth))
        )
        error = math.sqrt(held * (100 - held) / len(tally.equal))
        has_verdict = kind is None or kind[0] >= MIN_SEEDS
        apart, found = (
            f"{100 * np.mean([item.p_value <= 0.05 for item in tested]):.1f}" if has_verdict else "no verdict"
            for tested in (tally.equal, tally.unequal)
        )
        width = 100 * np.median([item.interval.high - item.interval.low for item in tally.equal])
        told = "" if kind is None else f"{100 * np.mean([item.seed_share for item in tally.equal]):.0f}"
        cells = [f"{share:.0%}", seeds, f"{held:.1f} ± {error:.1f}", f"{held_worse:.1f}"]
        yield f"| {' | '.join([*cells, apart, found, f'{width:.2f}', told])} |"


HEADINGS = (
    *("EER varies over seeds by", "seeds of each", "equal: held, %", "unequal: held, %"),
    *("equal told apart, %", "worse found, %", "median width, points", "variance said to be the seeds', %"),
)


@click.command()
@click.option("--studies", default=1_000, show_default=True)
def main(studies: int) -> None:
    """Simulates studies and prints a table."""
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
    for share in SEED_SDS:
        for line in format_rows(share, simulate(share, studies)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
