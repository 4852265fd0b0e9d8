"""Comparison of systems on one track: which is better, and whether the data can tell."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from sls.data.formats import as_columns
from sls.data.keys import AsvScores
from sls.data.protocols import ALL_SUBSETS
from sls.data.scores import JoinedScores
from sls.engine.blas import one_blas_thread
from sls.engine.breakdown import BootstrapSettings
from sls.engine.comparison_results import Comparison, Difference, Disagreement, Resampled, say_verdict
from sls.engine.evaluation import evaluate, make_factors
from sls.engine.factors import ATTACK, SPEAKER, UNKNOWN, Factor, local_clusters, name_clusters
from sls.engine.results import COST, FRACTION, Evaluation
from sls.engine.tandem import make_tandem, pick_costs
from sls.metrics.bootstrap import adjust_by_holm, percentile_interval, two_sided_p_value
from sls.metrics.clusters import resample_clusters
from sls.metrics.paired import resample_trials
from sls.metrics.ranking import Ranking, rank_trials
from sls.metrics.tdcf import LegacyTandemCosts, LinearCost

DEFAULT_DISAGREEMENTS = 20


@one_blas_thread()
def compare(
    systems: Mapping[str, JoinedScores],
    *,
    track: str,
    corpus: str = "",
    subset: str = ALL_SUBSETS,
    metrics: Collection[str] = ("eer",),
    breakdown: Sequence[str] = (),
    asv: AsvScores | None = None,
    settings: BootstrapSettings | None = None,
    num_disagreements: int = DEFAULT_DISAGREEMENTS,
) -> Comparison:
    """Compares systems on the trials that all of them scored.

    Args:
        systems: Joined scores by the name of each system, in the order of the report.
        track: Name of the track.
        corpus: Which data this is, where the track's name does not say it.
        subset: Which subset of the key; `all` takes every trial.
        metrics: What the track earns; the min t-DCF is compared too where it is earned and `asv` is given.
        breakdown: Columns by which each system's evaluation is broken down.
        asv: Trials of the speaker verifier in that subset.
        settings: How intervals are drawn. Those of the differences rest on more resamples than that where so
            many pairs need them to be told apart; the notes say so.
        num_disagreements: How many trials to list on which the systems disagree most.

    Raises:
        ValueError: Fewer than two systems, no common trial, keys that contradict each other, one class only,
            or scores that cannot be ranked.
    """
    if len(systems) < 2:
        raise ValueError(f"systems: found {len(systems)}, expected two or more")
    settings = settings or BootstrapSettings()
    selected = {name: joined.select_subset(subset) for name, joined in systems.items()}
    common, notes = _keep_common(selected)
    evaluations = tuple(
        evaluate(
            joined,
            track=track,
            system=name,
            corpus=corpus,
            subset=ALL_SUBSETS,
            metrics=metrics,
            breakdown=breakdown,
            asv=asv,
            settings=settings,
        )
        for name, joined in common.items()
    )
    evaluations = tuple(replace(evaluation, subset=subset) for evaluation in evaluations)
    first = next(iter(common.values()))
    is_bonafide = first.is_bonafide
    rankings = [rank_trials(joined.scores, is_bonafide) for joined in common.values()]
    costs: dict[str, LinearCost | None] = {"eer": None}
    if asv is not None:
        model = pick_costs(metrics)
        name = "min_tdcf_legacy" if isinstance(model, LegacyTandemCosts) else "min_tdcf"
        if name in metrics:
            costs[name] = make_tandem(asv, model).linear_cost()
    factors = make_factors(first, is_bonafide, {SPEAKER, ATTACK})
    num_pairs = math.comb(len(common), 2)
    enough = settings.enough_for(num_pairs)
    if enough != settings:
        notes += (
            f"drew {enough.num_resamples} resamples for the differences, not {settings.num_resamples}: fewer cannot "
            f"tell {len(common)} systems apart among all {num_pairs} pairs",
        )
    differences = [
        difference
        for name, cost in costs.items()
        for difference in _compare_measure(name, cost, evaluations, rankings, factors, enough, track)
    ]
    return Comparison(
        track=track,
        subset=subset,
        corpus=corpus,
        evaluations=evaluations,
        differences=tuple(differences),
        disagreements=_find_disagreements(common, rankings, num_disagreements),
        num_common=len(first),
        notes=notes,
    )


def _keep_common(systems: Mapping[str, JoinedScores]) -> tuple[dict[str, JoinedScores], tuple[str, ...]]:
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


def _compare_measure(
    measure: str,
    cost: LinearCost | None,
    evaluations: Sequence[Evaluation],
    rankings: Sequence[Ranking],
    factors: Sequence[Factor],
    settings: BootstrapSettings,
    track: str,
) -> list[Difference]:
    """Returns the difference of each pair of systems in one measure."""
    pairs = list(combinations(range(len(rankings)), 2))
    over_trials: list[Resampled | None] = [None] * len(pairs)
    over_clusters = list(over_trials)
    if settings.num_resamples:
        rng = settings.generator("paired trials", measure)
        drawn = resample_trials(rankings, rng, settings.num_resamples, cost)
        over_trials = _summarise(drawn, pairs, "trials", settings)
        clustered = _resample_clustered(measure, cost, rankings, factors, settings)
        if clustered is not None:
            drawn, over = clustered
            over_clusters = _summarise(drawn, pairs, over, settings)
    found = []
    for (one, two), trials, clusters in zip(pairs, over_trials, over_clusters, strict=True):
        values = [_value(evaluations[place], measure) for place in (one, two)]
        difference = Difference(
            first=evaluations[one].system,
            second=evaluations[two].system,
            measure=measure,
            value=values[0] - values[1],
            unit=FRACTION if measure == "eer" else COST,
            over_trials=trials,
            over_clusters=clusters,
        )
        found.append(replace(difference, verdict=say_verdict(difference, track)))
    return found


def _resample_clustered(
    measure: str,
    cost: LinearCost | None,
    rankings: Sequence[Ranking],
    factors: Sequence[Factor],
    settings: BootstrapSettings,
) -> tuple[NDArray[np.float64], str] | None:
    by_name = {factor.name: factor for factor in factors}
    by_trial = np.argsort(rankings[0].trials)
    unranked = rankings[0].at(by_trial)
    local = local_clusters(unranked, by_name.get(SPEAKER), by_name.get(ATTACK))
    if local is None:
        return None
    _, clusters = local
    rng = settings.generator("paired clusters", measure)
    drawn = resample_clusters(rankings, clusters, rng, settings.num_resamples, cost)
    return drawn, name_clusters(clusters)


def _summarise(
    drawn: NDArray[np.float64], pairs: Sequence[tuple[int, int]], over: str, settings: BootstrapSettings
) -> list[Resampled | None]:
    differences = [drawn[:, one] - drawn[:, two] for one, two in pairs]
    intervals = [percentile_interval(values, over, settings.level) for values in differences]
    p_values = [two_sided_p_value(values) for values in differences]
    adjusted = adjust_by_holm(p_values)
    return [
        None if interval is None else Resampled(interval, p_value, p_value_holm)
        for interval, p_value, p_value_holm in zip(intervals, p_values, adjusted, strict=True)
    ]


def _value(evaluation: Evaluation, measure: str) -> float:
    found = evaluation.measure(measure)
    if found is None:
        raise ValueError(f"{evaluation.system}: no {measure} was computed")
    return found.value


def _find_disagreements(
    systems: Mapping[str, JoinedScores], rankings: Sequence[Ranking], count: int
) -> tuple[Disagreement, ...]:
    """Returns the trials whose ranks differ most, largest difference first.

    Ranks, since the scores of two systems have no common scale.
    """
    size = rankings[0].trials.size
    ranks = np.empty((len(rankings), size))
    for row, ranking in enumerate(rankings):
        # Equal scores share the rank of the first of them.
        starts = np.searchsorted(ranking.scores, ranking.scores, side="left")
        ranks[row, ranking.trials] = starts / max(size - 1, 1)
    spread = ranks.max(axis=0) - ranks.min(axis=0)
    first = next(iter(systems.values()))
    is_bonafide = first.is_bonafide
    fields = as_columns(first.key.fields)
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
