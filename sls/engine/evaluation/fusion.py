"""Fusion: several systems' scores of a track become one, by weights that were fitted on other trials."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sls.data.tables.score_files import JoinedScores
from sls.engine.evaluation.comparison import keep_common
from sls.engine.evaluation.groups import halve_systems
from sls.engine.evaluation.transfers import check_apart
from sls.metrics.eer import check_scores
from sls.metrics.logistic import LinearLlr, fit_linear_llr


@dataclass(frozen=True)
class Fusion:
    """A log-likelihood ratio that is linear in the scores of several systems."""

    systems: tuple[str, ...]
    llr: LinearLlr
    fitted_on: str
    num_bonafide: int
    num_spoof: int


def fit_fusion(systems: Mapping[str, JoinedScores], name: str) -> Fusion:
    """Fits the weights of systems by logistic regression, both classes weighing the same.

    Trials that not all systems have are left out; the others are called by `name`.

    Raises:
        ValueError: Fewer than two systems, a class is missing, or a system's scores are all the same.
    """
    if len(systems) < 2:
        raise ValueError(f"systems: found {len(systems)} on {name}, expected two or more to fuse")
    common, _ = keep_common(systems)
    is_bonafide = next(iter(common.values())).is_bonafide
    for joined in common.values():
        try:
            check_scores(joined.scores[is_bonafide], joined.scores[~is_bonafide])
        except ValueError as error:
            raise ValueError(f"{joined.table.place}: {error}") from None
    scores = np.stack([joined.scores for joined in common.values()])
    llr = fit_linear_llr(scores[:, is_bonafide], scores[:, ~is_bonafide])
    num_bonafide = int(np.count_nonzero(is_bonafide))
    return Fusion(tuple(common), llr, name, num_bonafide, len(is_bonafide) - num_bonafide)


def apply_fusion(
    fusion: Fusion, fitted_on: Mapping[str, JoinedScores], systems: Mapping[str, JoinedScores], track: str
) -> dict[str, float]:
    """Returns the log-likelihood ratio of each trial of a track that all systems have.

    Raises:
        ValueError: They are those that the weights were fitted on, or no trial is common to all systems.
    """
    common, _ = keep_common({name: systems[name] for name in fusion.systems})
    first = fusion.systems[0]
    check_apart({fusion.fitted_on: fitted_on[first], track: systems[first]})
    llrs = fusion.llr.apply(np.stack([joined.scores for joined in common.values()]))
    return dict(zip(common[first].key.names.tolist(), llrs.tolist(), strict=True))


def fuse_halves(systems: Mapping[str, JoinedScores], track: str) -> tuple[list[Fusion], dict[str, float]]:
    """Fuses the scores of a track: each half of the speakers by what `fit_fusion` finds on the other half."""
    common, _ = keep_common(systems)
    halves = halve_systems(common)
    fusions = [fit_fusion(half, f"{track} half {number}") for number, half in enumerate(halves, start=1)]
    fused = [
        apply_fusion(fusion, halves[1 - place], halves[place], f"{track} half {place + 1}")
        for place, fusion in enumerate(reversed(fusions))
    ]
    return fusions, fused[0] | fused[1]
