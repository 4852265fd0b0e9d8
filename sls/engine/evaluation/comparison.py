"""Comparison of systems on one track: which is better, and whether the data can tell."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from sls.data.tables.asv_scores import AsvScores
from sls.data.tables.formats import as_columns
from sls.data.tables.protocols import ALL_SUBSETS
from sls.data.tables.score_files import JoinedScores
from sls.engine.evaluation.clusters import sample_clusters, sample_trials
from sls.engine.evaluation.comparison_results import Comparison, Difference, Disagreement, Tested, say_verdict
from sls.engine.evaluation.evaluation import evaluate
from sls.engine.evaluation.factors import ATTACK, SPEAKER, UNKNOWN, Factor, make_factors
from sls.engine.evaluation.results import COST, FRACTION, Evaluation
from sls.engine.evaluation.tandem import Tandem, make_tandem, pick_costs
from sls.metrics.intervals import Estimate, estimate_eer
from sls.metrics.paired import PairedDifference, adjust_by_holm
from sls.metrics.ranking import Ranking, rank_trials
from sls.metrics.sampling import Sampling
from sls.metrics.tdcf import LegacyTandemCosts

DEFAULT_DISAGREEMENTS = 20


def compare(
    systems: Mapping[str, JoinedScores],
    *,
    track: str,
    corpus: str = "",
    subset: str = ALL_SUBSETS,
    metrics: Collection[str] = ("eer",),
    breakdown: Sequence[str] = (),
    asv: AsvScores | None = None,
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
        num_disagreements: How many trials to list on which the systems disagree most.

    Raises:
        ValueError: Fewer than two systems, no common trial, keys that contradict each other, one class only,
            or scores that cannot be ranked.
    """
    if len(systems) < 2:
        raise ValueError(f"systems: found {len(systems)}, expected two or more")
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
        )
        for name, joined in common.items()
    )
    evaluations = tuple(replace(evaluation, subset=subset, other_subsets=()) for evaluation in evaluations)
    first = next(iter(common.values()))
    is_bonafide = first.is_bonafide
    rankings = [rank_trials(joined.scores, is_bonafide) for joined in common.values()]
    tandems = {}
    if asv is not None:
        model = pick_costs(metrics)
        name = "min_tdcf_legacy" if isinstance(model, LegacyTandemCosts) else "min_tdcf"
        if name in metrics:
            tandems[name] = make_tandem(asv, model, (ATTACK,))
    factors = {factor.name: factor for factor in make_factors(first, {SPEAKER, ATTACK})}
    differences = [
        difference
        for name in ("eer", *tandems)
        for difference in _compare_measure(name, tandems.get(name), evaluations, rankings, factors, track)
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
    tandem: Tandem | None,
    evaluations: Sequence[Evaluation],
    rankings: Sequence[Ranking],
    factors: Mapping[str, Factor],
    track: str,
) -> list[Difference]:
    """Returns the difference of each pair of systems in one measure."""
    speakers, attacks = factors.get(SPEAKER), factors.get(ATTACK)

    def estimate(ranking: Ranking, sampling: Sampling) -> Estimate:
        if tandem is None:
            return estimate_eer(ranking, sampling)
        return tandem.estimate(ranking, attacks, sampling, optimism=0.0)  # alike in both systems

    over_trials = _test([estimate(ranking, sample_trials(ranking, is_shared=True)) for ranking in rankings])
    clustered = [sample_clusters(ranking, speakers, attacks, is_shared=True) for ranking in rankings]
    found = [
        estimate(ranking, sampling)
        for ranking, sampling in zip(rankings, clustered, strict=True)
        if sampling is not None
    ]
    over_clusters: list[Tested] | list[None] = _test(found) if found else [None] * len(over_trials)
    differences = []
    pairs = combinations(evaluations, 2)
    for (one, two), trials, clusters in zip(pairs, over_trials, over_clusters, strict=True):
        difference = Difference(
            first=one.system,
            second=two.system,
            measure=measure,
            value=_value(one, measure) - _value(two, measure),
            unit=FRACTION if measure == "eer" else COST,
            over_trials=trials,
            over_clusters=clusters,
        )
        differences.append(replace(difference, verdict=say_verdict(difference, track)))
    return differences


def _test(estimates: Sequence[Estimate]) -> list[Tested]:
    """Returns what the estimates of all systems say of each pair."""
    pairs = [PairedDifference(*pair) for pair in combinations(estimates, 2)]
    shortage = estimates[0].sampling.shortage
    if shortage:
        return [Tested(pair.interval(), None, None, shortage) for pair in pairs]
    p_values = [pair.p_value for pair in pairs]
    adjusted = adjust_by_holm(p_values)
    return [
        Tested(pair.interval(), p_value, p_value_holm)
        for pair, p_value, p_value_holm in zip(pairs, p_values, adjusted, strict=True)
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
