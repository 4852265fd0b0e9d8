"""Comparison of systems on one track: which is better, and whether the data can tell."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from statistics import fmean

import numpy as np

from sls.data.tables.protocols import ALL_SUBSETS
from sls.data.tables.score_files import JoinedScores
from sls.engine.evaluation.comparison_results import Comparison, Difference, Disagreement, say_verdict
from sls.engine.evaluation.evaluation import EvaluationPlan, evaluate
from sls.engine.evaluation.groups import ATTACK, SPEAKER, UNKNOWN, make_factors, sample
from sls.engine.evaluation.measures import COST, FRACTION
from sls.engine.evaluation.min_tdcf import TANDEM_COSTS, make_tandem, pick_tdcf
from sls.engine.evaluation.results import Evaluation
from sls.metrics.eer import Ranking, rank_trials
from sls.metrics.intervals import Estimate, estimate_eer
from sls.metrics.paired import SeededEstimate, compare_pairs
from sls.metrics.sampling import Sampling

DEFAULT_DISAGREEMENTS = 20


@dataclass(frozen=True)
class SeedOf:
    """Which recipe a system is a training of, beside others of it by other seeds."""

    recipe: str
    seed: str = ""
    """Empty where it is not known."""


def compare(
    systems: Mapping[str, JoinedScores],
    plan: EvaluationPlan,
    *,
    seeds: Mapping[str, SeedOf] | None = None,
    num_disagreements: int = DEFAULT_DISAGREEMENTS,
) -> Comparison:
    """Compares systems on the trials that all of them scored.

    Args:
        systems: Joined scores by the name of each system, in the order of the report.
        plan: What is asked of each; the min t-DCF is compared too where it is earned and there are ASV scores.
        seeds: Systems that are trainings of one recipe: recipes are compared then, and the others as they are.
        num_disagreements: How many trials to list on which the systems disagree most.

    Raises:
        ValueError: Fewer than two systems, no common trial, keys that contradict each other, one class only,
            or scores that cannot be ranked.
    """
    recipes = group_by_recipe(systems, seeds or {})
    if len(recipes) < 2:
        raise ValueError(f"systems: found {len(recipes)}, expected two or more")
    selected = {name: joined.select_subset(plan.subset) for name, joined in systems.items()}
    common, notes = keep_common(selected)
    _refuse_copies(common, recipes)
    of_all = replace(plan, subset=ALL_SUBSETS)  # the subset has been taken
    evaluations = [evaluate(joined, of_all, system=name) for name, joined in common.items()]
    rankings = [rank_trials(joined.scores, joined.is_bonafide) for joined in common.values()]
    return Comparison(
        track=plan.track,
        subset=plan.subset,
        corpus=plan.corpus,
        evaluations=tuple(replace(found, subset=plan.subset, other_subsets=()) for found in evaluations),
        differences=tuple(_find_differences(common, rankings, evaluations, plan, recipes)),
        disagreements=_find_disagreements(common, rankings, num_disagreements),
        num_common=rankings[0].trials.size,
        notes=notes,
    )


def group_by_recipe(systems: Iterable[str], seeds: Mapping[str, SeedOf]) -> dict[str, dict[str, str]]:
    """Returns what is compared: by recipe, its systems with the seed of each."""
    recipes: dict[str, dict[str, str]] = {}
    for system in systems:
        found = seeds.get(system, SeedOf(system))
        recipes.setdefault(found.recipe, {})[system] = found.seed
    return recipes


def _refuse_copies(systems: Mapping[str, JoinedScores], recipes: Mapping[str, Mapping[str, str]]) -> None:
    """Raises ValueError where two trainings of a recipe have the very same scores: one counts once."""
    for own in recipes.values():
        known: dict[bytes, str] = {}
        for system in own:
            other = known.setdefault(systems[system].scores.tobytes(), system)
            if other != system:
                raise ValueError(
                    f"systems: found the same scores for {other} and {system}, expected those of two trainings"
                )


def keep_common(systems: Mapping[str, JoinedScores]) -> tuple[dict[str, JoinedScores], tuple[str, ...]]:
    """Returns every system's scores of the trials that all have, in one order, and what was left out."""
    first, *others = systems
    order = systems[first].key.names
    for other in others:
        order = order[systems[other].key.names.find(order) >= 0]
    if not len(order):
        raise ValueError(f"systems: found no trial that {', '.join(systems)} have in common, expected some")
    common = {}
    for system, joined in systems.items():
        rows = joined.key.names.find(order)
        is_kept = np.array_equal(rows, np.arange(len(joined)))
        common[system] = joined if is_kept else joined.select(rows)
    labels = common[first].is_bonafide
    for other in others:
        if not np.array_equal(labels, common[other].is_bonafide):
            raise ValueError(f"systems: the keys of {first} and {other} give other labels to the same trials")
    if all(len(joined) == len(order) for joined in systems.values()):
        return common, ()
    counts = ", ".join(f"{system} {len(joined)}" for system, joined in systems.items())
    return common, (f"compared on the {len(order)} trials that all have in common ({counts})",)


def _find_differences(
    systems: Mapping[str, JoinedScores],
    rankings: Sequence[Ranking],
    evaluations: Sequence[Evaluation],
    plan: EvaluationPlan,
    recipes: Mapping[str, Mapping[str, str]],
) -> Iterator[Difference]:
    """Yields the difference of each pair of recipes, measure by measure."""
    first = next(iter(systems.values()))
    factors = {factor.name: factor for factor in make_factors(first, {SPEAKER, ATTACK})}
    speakers, attacks = factors.get(SPEAKER), factors.get(ATTACK)
    samplings = [sample(ranking, speakers, attacks, is_shared=True) for ranking in rankings]
    estimators: dict[str, Callable[[Ranking, Sampling], Estimate]] = {"eer": estimate_eer}
    tdcf = pick_tdcf(plan.metrics)
    if plan.asv is not None and tdcf in plan.metrics:
        tandem = make_tandem(plan.asv, TANDEM_COSTS[tdcf], (ATTACK,))
        estimators[tdcf] = partial(tandem.estimate, attacks=attacks, optimism=0.0)  # alike in both systems
    for measure, estimate in estimators.items():
        kinds = zip(*(found.kinds for found in map(estimate, rankings, samplings)), strict=True)
        tested = [compare_pairs(_join_seeds(recipes, systems, alike)) for alike in kinds]
        values = {found.system: found.value(measure) for found in evaluations}
        means = {recipe: fmean(values[system] for system in own) for recipe, own in recipes.items()}
        of_pairs = zip(combinations(recipes, 2), zip(*tested, strict=True), strict=True)
        for (one, two), (trials, *clusters) in of_pairs:
            difference = Difference(
                first=one,
                second=two,
                measure=measure,
                value=means[one] - means[two],
                unit=FRACTION if measure == "eer" else COST,
                over_trials=trials,
                over_clusters=clusters[0] if clusters else None,
            )
            verdict = say_verdict(difference, plan.track)
            if _are_one(systems, recipes[one], recipes[two]):
                verdict = (
                    f"{one} and {two} give every trial of {plan.track} the same score: they are one system"
                )
            yield replace(difference, verdict=verdict)


def _are_one(systems: Mapping[str, JoinedScores], first: Iterable[str], second: Iterable[str]) -> bool:
    """Returns whether two recipes have the same scores, as where both chose the same epoch of the same steps."""
    one, two = (
        sorted(systems[system].scores.tobytes() for system in systems_of) for systems_of in (first, second)
    )
    return one == two


def _join_seeds(
    recipes: Mapping[str, Mapping[str, str]], systems: Iterable[str], estimates: Iterable[Estimate]
) -> list[Estimate | SeededEstimate]:
    """Returns one number for each recipe, of estimates in the order of the systems."""
    found = dict(zip(systems, estimates, strict=True))
    joined: list[Estimate | SeededEstimate] = []
    for own in recipes.values():
        seeds = tuple(own.values())
        # Two trainings of one seed say nothing of seeds that could be paired.
        is_known = all(seeds) and len(set(seeds)) == len(seeds)
        several = SeededEstimate(tuple(found[system] for system in own), seeds if is_known else ())
        joined.append(several if len(own) > 1 else several.of_seeds[0])
    return joined


def _find_disagreements(
    systems: Mapping[str, JoinedScores], rankings: Sequence[Ranking], count: int
) -> tuple[Disagreement, ...]:
    """Returns the trials whose ranks differ most, largest difference first.

    Ranks, since the scores of two systems have no common scale.
    """
    # Equal scores share the rank of the first of them.
    below = [
        np.searchsorted(ranking.scores, joined.scores, side="left")
        for ranking, joined in zip(rankings, systems.values(), strict=True)
    ]
    ranks = np.stack(below) / max(rankings[0].trials.size - 1, 1)
    spread = ranks.max(axis=0) - ranks.min(axis=0)
    first = next(iter(systems.values()))
    is_bonafide = first.is_bonafide
    fields = first.key.fields
    columns = {name: fields.categories(name) for name in fields}
    found = []
    for trial in np.argsort(-spread, kind="stable")[:count]:
        values = {name: column.values[column.codes[trial]] for name, column in columns.items()}
        found.append(
            Disagreement(
                trial=str(first.key.names[trial]),
                label="bonafide" if is_bonafide[trial] else "spoof",
                ranks=dict(zip(systems, ranks[:, trial].tolist(), strict=True)),
                spread=float(spread[trial]),
                fields={name: value for name, value in values.items() if value != UNKNOWN},
            )
        )
    return tuple(found)
