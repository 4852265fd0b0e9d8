"""The same trials, clean and degraded, held against each other pair by pair."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

import numpy as np

from sls.data.conditions.conditions import CLEAN, Condition
from sls.data.tables.score_files import JoinedScores
from sls.engine.evaluation.comparison_results import Difference, say_verdict
from sls.engine.evaluation.evaluation import EvaluationPlan, rank
from sls.engine.evaluation.groups import ATTACK, SPEAKER, sample
from sls.engine.evaluation.measures import FRACTION, Measure
from sls.engine.robustness.results import SILENCE_ALONE, ConditionResult, Flip, RobustnessReport
from sls.metrics.dcf import DetectionCosts
from sls.metrics.eer import rank_trials
from sls.metrics.intervals import estimate_eer
from sls.metrics.operating_points import EER_POINT, estimate_decisions, set_operating_points
from sls.metrics.paired import compare_pairs, judge_together

MAX_FLIPS = 100
"""Trials that are kept of each condition."""
TIES_SEED = 1
COSTS = DetectionCosts()
"""Of which neither the threshold of the EER nor an error at it depends."""


class CleanTrials:
    """Clean scores of the subset of a plan: what those of the same trials under each condition are held against.

    Raises:
        ValueError: A class is missing, or scores that cannot be ranked.
    """

    def __init__(self, joined: JoinedScores, plan: EvaluationPlan) -> None:
        self.scores, self.is_bonafide, self.names = joined.scores, joined.is_bonafide, joined.key.names
        everything = rank(joined, plan)
        self.ranking = everything.ranking
        self.speakers, self.attacks = everything.find(SPEAKER), everything.find(ATTACK)
        by_class = (self.scores[self.is_bonafide], self.scores[~self.is_bonafide])
        self.point = next(
            point for point in set_operating_points(*by_class, COSTS) if point.method == EER_POINT
        )
        sampling = sample(self.ranking, self.speakers, self.attacks, is_shared=True)
        self.estimates = estimate_eer(self.ranking, sampling).kinds

    def judge(self, condition: Condition, scores: np.ndarray) -> ConditionResult:
        """Returns what a condition costs by scores of the same trials, `(trials,)`, with p-values of its own alone.

        Raises:
            ValueError: Scores that cannot be ranked.
        """
        ranking = rank_trials(scores, self.is_bonafide)
        if condition.kind == SILENCE_ALONE:
            # Recordings without silence share a score. Bona fide first among so many, as the challenges have it,
            # would give an EER far above chance to a detector that knows nothing.
            ranking = ranking.draw_ties(np.random.default_rng(TIES_SEED))
        sampling = sample(ranking, self.speakers, self.attacks, is_shared=True)
        estimates = estimate_eer(ranking, sampling).kinds
        tested = [compare_pairs(pair)[0] for pair in zip(estimates, self.estimates, strict=True)]
        value = estimates[0].value - self.estimates[0].value
        decisions = estimate_decisions(self.point, ranking, COSTS, sampling)
        difference = Difference(
            condition.name, CLEAN, "eer", value, FRACTION, tested[0], tested[1] if len(tested) > 1 else None
        )
        num_flips, flips = self._find_flips(scores)
        return ConditionResult(
            condition,
            (
                Measure.of("eer", estimates, FRACTION),
                Measure("eer_diff", value, FRACTION, tuple(found.interval for found in tested)),
                *(Measure.of(name, decisions[name].kinds, FRACTION) for name in ("miss", "false_alarm")),
            ),
            difference,
            num_flips,
            flips,
        )

    def _find_flips(self, scores: np.ndarray) -> tuple[int, tuple[Flip, ...]]:
        """Returns how many trials are decided otherwise than by their clean scores, and those that moved furthest."""
        flipped = np.flatnonzero(self.point.accept(scores) != self.point.accept(self.scores))
        moved = np.abs(scores[flipped] - self.scores[flipped])
        furthest = flipped[np.argsort(-moved, kind="stable")[:MAX_FLIPS]]
        return len(flipped), tuple(
            Flip(
                str(self.names[place]),
                "bonafide" if self.is_bonafide[place] else "spoof",
                float(self.scores[place]),
                float(scores[place]),
            )
            for place in furthest
        )


def judge_conditions(
    clean: JoinedScores,
    degraded: Iterable[tuple[Condition, JoinedScores]],
    plan: EvaluationPlan,
    system: str,
) -> RobustnessReport:
    """Says what each condition costs a system.

    Scores are of the same trials, those of the subset of the plan. Of degraded ones no more than one is held at once.

    Raises:
        ValueError: Clean scores that cannot be ranked.
    """
    basis = CleanTrials(clean, plan)
    found: list[ConditionResult] = []
    notes: list[str] = []
    for condition, joined in degraded:
        try:
            found.append(basis.judge(condition, joined.scores))
        except ValueError as error:  # such as of scores that are all alike, which says nothing of the others
            notes.append(f"{condition.name} is left out: {error}")
    found.sort(key=lambda item: item.difference.value, reverse=True)
    held = _judge_together([item for item in found if not item.is_control], plan.track)
    controls = _judge_together([item for item in found if item.is_control], plan.track)
    return RobustnessReport(
        system=system,
        track=plan.track,
        subset=plan.subset,
        corpus=plan.corpus,
        num_bonafide=basis.ranking.num_bonafide,
        num_spoof=basis.ranking.num_spoof,
        clean=Measure.of("eer", basis.estimates, FRACTION),
        threshold=basis.point.threshold,
        results=(*held, *controls),
        notes=tuple(notes),
    )


def _judge_together(found: Sequence[ConditionResult], track: str) -> Iterator[ConditionResult]:
    """Yields results with p-values that hold for all of them together, and the verdict of each."""
    differences = [item.difference for item in found]
    over_trials = judge_together([difference.over_trials for difference in differences])
    over_clusters = judge_together([item.over_clusters for item in differences if item.over_clusters])
    for item, trials, clusters in zip_longest(found, over_trials, over_clusters):
        difference = replace(item.difference, over_trials=trials, over_clusters=clusters)
        yield replace(item, difference=replace(difference, verdict=say_verdict(difference, track)))
