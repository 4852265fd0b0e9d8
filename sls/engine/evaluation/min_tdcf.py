"""The min t-DCF of a track, in every condition of its breakdowns.

The ASV meets the same attacks and codecs as the countermeasure: as in the organisers' tables of 2021, its
threshold is its EER point among the target and non-target trials of the condition, and its spoofed trials are
those of the condition's attack and codec.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sls.data.tables.asv_scores import AsvScores, Role
from sls.engine.evaluation.groups import ATTACK, ATTACKS, UNKNOWN, Factor, order_values
from sls.metrics.eer import Ranking, compute_eer
from sls.metrics.intervals import Estimate, estimate_min_cost
from sls.metrics.sampling import Floats, Sampling, leave_out
from sls.metrics.tdcf import AsvErrorRates, LinearCost, asv_error_rates, legacy_cost, revised_cost

TandemCost = Callable[[AsvErrorRates], LinearCost]
TANDEM_COSTS: Mapping[str, TandemCost] = {"min_tdcf": revised_cost, "min_tdcf_legacy": legacy_cost}
"""Of 2021 and of 2019, by the measure that they give."""
SLOPE_STEP = 1e-6
"""Change of the ASV's acceptance over which the slope of a cost is taken."""


@dataclass(frozen=True)
class _Trials:
    """Some of the ASV's trials; every array has the shape `(trials,)`."""

    scores: NDArray[np.float64]
    is_target: NDArray[np.bool_]
    codes: Mapping[str, NDArray[np.intp]]

    def select(self, field: str, code: int) -> _Trials:
        chosen = np.flatnonzero(self.codes[field] == code)
        codes = {name: held[chosen] for name, held in self.codes.items()}
        return _Trials(self.scores[chosen], self.is_target[chosen], codes)

    @cached_property
    def target(self) -> NDArray[np.float64]:
        return self.scores[self.is_target]

    @cached_property
    def nontarget(self) -> NDArray[np.float64]:
        return self.scores[~self.is_target]

    @cached_property
    def threshold(self) -> float:
        return compute_eer(self.target, self.nontarget).threshold


@dataclass(frozen=True)
class Tandem:
    """The trials of a speaker verifier, and the costs of its tandem with a countermeasure."""

    genuine: _Trials
    """Targets and non-targets."""
    spoofed: _Trials
    values: Mapping[str, Mapping[str, int]]
    """Code of each value of each field."""
    cost: TandemCost

    @property
    def attacks(self) -> set[str]:
        """Names of the attacks that the ASV met; empty where its scores do not name them."""
        return set(self.values.get(ATTACK, ())) - {UNKNOWN, "bonafide"}

    def error_rates(self) -> AsvErrorRates:
        """Returns the ASV's error rates here; raises ValueError where they cannot be: no trials, constant scores."""
        genuine = self.genuine
        return asv_error_rates(genuine.target, genuine.nontarget, self.spoofed.scores, genuine.threshold)

    def linear_cost(self) -> LinearCost:
        """Returns the cost in this condition; raises what `error_rates` and the cost do."""
        return self.cost(self.error_rates())

    def estimate(
        self, ranking: Ranking, sampling: Sampling, attacks: Factor | None, optimism: float
    ) -> Estimate:
        """Returns the least cost of a countermeasure; other attacks would meet the ASV as well.

        The trials and attacks, where known, are the countermeasure's, and the optimism is what `find_optimism` finds
        of them.
        """
        found = estimate_min_cost(ranking, self.linear_cost(), sampling, optimism)
        if attacks is None or ATTACKS not in sampling.clusters or not self.attacks:
            return found
        (_, miss), (_, accept) = found.terms
        moved = self._acceptance_deviations(attacks.values) * self._slope(miss.value, accept.value)
        return replace(found, by_asv=sampling.place(ATTACKS, moved), limits=(0.0, 1.0))

    def _acceptance_deviations(self, attacks: Sequence[str]) -> Floats:
        """Returns how each attack moves the ASV's acceptance of spoofed trials, shape `(attacks,)`."""
        rates, codes = self.error_rates(), self.spoofed.codes[ATTACK]
        accepted = (self.spoofed.scores >= rates.threshold) - rates.spoof_false_alarm
        size = len(self.values[ATTACK]) + 1  # the last one is for attacks that the ASV did not meet
        counts = np.bincount(codes, minlength=size).astype(np.float64)
        moved = leave_out(np.bincount(codes, weights=accepted, minlength=size) / accepted.size, counts)
        return moved[[self.values[ATTACK].get(attack, size - 1) for attack in attacks]]

    def _slope(self, frr: float, far: float) -> float:
        """Returns how fast the cost at some rates of the countermeasure grows with the ASV's acceptance."""
        rates = self.error_rates()
        accepted = np.clip(rates.spoof_false_alarm + np.array([-SLOPE_STEP, SLOPE_STEP]), 0, 1).tolist()
        costs = [self.cost(replace(rates, spoof_false_alarm=share)).of_rates(frr, far) for share in accepted]
        return float(costs[1] - costs[0]) / (accepted[1] - accepted[0])

    def select(self, field: str, value: str, is_spoof_only: bool) -> Tandem | None:
        """Returns the tandem in a narrower condition; None where the ASV's trials do not know it."""
        code = self.values.get(field, {}).get(value)
        if code is None:
            return None
        genuine = self.genuine if is_spoof_only else self.genuine.select(field, code)
        return replace(self, genuine=genuine, spoofed=self.spoofed.select(field, code))


def make_tandem(asv: AsvScores, cost: TandemCost, fields: Collection[str] = ()) -> Tandem:
    """Builds the tandem over all trials of an ASV, ready for conditions on some fields."""
    is_target, is_spoof = asv.roles == Role.TARGET, asv.roles == Role.SPOOF
    values, codes = {}, {}
    for name in fields:
        if name in asv.fields:
            found, codes[name] = order_values(asv.fields.categories(name))
            values[name] = {value: code for code, value in enumerate(found)}
    genuine, spoofed = (
        _Trials(asv.scores[chosen], is_target[chosen], {name: held[chosen] for name, held in codes.items()})
        for chosen in (~is_spoof, is_spoof)
    )
    return Tandem(genuine, spoofed, values, cost)


def pick_tdcf(metrics: Collection[str]) -> str:
    """Returns which t-DCF a track's tables show: that of 2019 where only the legacy form is earned."""
    return "min_tdcf_legacy" if "min_tdcf_legacy" in metrics and "min_tdcf" not in metrics else "min_tdcf"
