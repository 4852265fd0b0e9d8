"""The t-DCF in every condition of a breakdown.

The ASV meets the same attacks and codecs as the countermeasure: as in the organisers' tables of 2021, its
threshold is its EER point among the target and non-target trials of the condition, and its spoofed trials are
those of the condition's attack and codec.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sls.data.keys import ASV_ROLES, NONTARGET, SPOOF, TARGET, AsvScores
from sls.engine.factors import encode
from sls.metrics.det import compute_eer
from sls.metrics.tdcf import AsvErrorRates, LegacyTandemCosts, LinearCost, TandemCosts, asv_error_rates


@dataclass(frozen=True)
class _Column:
    """A column of the ASV's trials, as codes."""

    places: Mapping[str, int]
    codes: NDArray[np.intp]


@dataclass(frozen=True)
class Tandem:
    """The trials of a speaker verifier, and the costs of its tandem with a countermeasure."""

    scores: NDArray[np.float64]
    roles: NDArray[np.int8]
    """Index into `ASV_ROLES` of each trial, shape `(trials,)`."""
    columns: Mapping[str, _Column]
    costs: TandemCosts | LegacyTandemCosts
    given_threshold: float | None = None
    """The ASV's threshold, where a wider condition has fixed it."""

    @cached_property
    def threshold(self) -> float:
        """The ASV's EER point between targets and non-targets."""
        if self.given_threshold is not None:
            return self.given_threshold
        return compute_eer(self._of(TARGET), self._of(NONTARGET)).threshold

    def error_rates(self) -> AsvErrorRates:
        """Returns the ASV's error rates in this condition.

        Raises:
            ValueError: It has no trial of some role here, or its scores are constant.
        """
        threshold = self.threshold
        return asv_error_rates(self._of(TARGET), self._of(NONTARGET), self._of(SPOOF), threshold)

    def linear_cost(self) -> LinearCost:
        """Returns the cost in this condition.

        Raises:
            ValueError: As `error_rates`, or the rates make the cost meaningless.
        """
        return self.costs.linear_cost(self.error_rates())

    def select(self, field: str, value: str, is_spoof_only: bool) -> Tandem | None:
        """Returns the tandem in a narrower condition; None where the ASV's trials do not know it."""
        if field not in self.columns or value not in self.columns[field].places:
            return None
        column = self.columns[field]
        chosen = column.codes == column.places[value]
        if is_spoof_only:
            chosen |= self.roles != ASV_ROLES.index(SPOOF)
        columns = {name: replace(held, codes=held.codes[chosen]) for name, held in self.columns.items()}
        threshold = self.threshold if is_spoof_only else None
        return Tandem(self.scores[chosen], self.roles[chosen], columns, self.costs, threshold)

    def _of(self, role: str) -> NDArray[np.float64]:
        return self.scores[self.roles == ASV_ROLES.index(role)]


def make_tandem(
    asv: AsvScores, costs: TandemCosts | LegacyTandemCosts, fields: Collection[str] = ()
) -> Tandem:
    """Builds the tandem over all trials of an ASV, ready for conditions on some fields."""
    found, codes = encode(asv.roles)
    roles = np.array([ASV_ROLES.index(role) for role in found], dtype=np.int8)[codes]
    columns = {}
    for name in fields:
        if name in asv.fields:
            values, column_codes = encode(asv.fields[name])
            columns[name] = _Column({value: code for code, value in enumerate(values)}, column_codes)
    return Tandem(np.asarray(asv.scores, dtype=np.float64), roles, columns, costs)


def pick_costs(metrics: Collection[str]) -> TandemCosts | LegacyTandemCosts:
    """Returns the cost model of a track's tables: that of 2019 where only the legacy form is earned."""
    is_legacy = "min_tdcf_legacy" in metrics and "min_tdcf" not in metrics
    return LegacyTandemCosts() if is_legacy else TandemCosts()
