"""What a reader must know before believing the numbers of an evaluation."""

import math
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sls.data.tables.asv_scores import AsvScores, Role
from sls.data.tables.score_files import JoinedScores
from sls.engine.evaluation.breakdown import Condition
from sls.engine.evaluation.groups import ATTACK, UNKNOWN, Factor
from sls.engine.evaluation.measures import format_measure
from sls.metrics.calibration import Calibration, PavCalibration, are_outside
from sls.metrics.eer import Ranking, compute_eer, eer_of_curve, merge_sorted
from sls.quotation import count_of

LEAST_SHOWN = 0.00005
"""Half of 0.01 points: a smaller difference of EERs does not show in a table."""
FEW_TRIALS = 30
"""Below this many trials of a class, a rate moves by more than 3 points with each error."""


def find_warnings(
    everything: Condition,
    eer: float,
    joined: JoinedScores,
    metrics: Collection[str] = (),
    calibration: Calibration | None = None,
    asv: AsvScores | None = None,
) -> tuple[str, ...]:
    """Returns sentences on what the scores are like, what they cover, how they were calibrated, and on the ASV's.

    The ranked trials may be calibrated, the joined scores are as they were before. The EER is a fraction.
    """
    found = [*_warn_of_scores(everything.ranking, eer)]
    coverage = joined.coverage
    if not coverage.is_complete:
        found.append(
            f"partial coverage: {count_of(coverage.joined, 'trial')} in both, of {coverage.keyed} in the key and "
            f"{coverage.scored} scored"
        )
    if calibration is not None:
        found += _warn_of_calibration(calibration, joined, eer)
    if everything.tandem is None and any("tdcf" in metric for metric in metrics):
        found.append(
            "no ASV scores were found, so that there is no t-DCF: put them beside the key, or name them by asv_scores"
        )
    if asv is not None:
        found += _warn_of_asv(everything, joined, asv)
    return tuple(found)


def _warn_of_scores(ranking: Ranking, eer: float) -> Iterator[str]:
    """Yields what reversed, perfect, few, coarse or tied scores do to the EER."""
    negated = compute_eer(-ranking.scores[ranking.is_bonafide], -ranking.scores[~ranking.is_bonafide]).eer
    # Of scores that know nothing, the EER is half the sum of two independent shares about one half; 95 %.
    by_chance = 1.96 * 0.25 * math.sqrt(1 / ranking.num_bonafide + 1 / ranking.num_spoof)
    if negated < eer and eer - 0.5 > by_chance:
        yield (
            f"these scores do better negated: EER {format_measure(negated)} in the place of {format_measure(eer)}; "
            "a higher score must mean more bona fide"
        )
    for name, count in (("bona fide", ranking.num_bonafide), ("spoofed", ranking.num_spoof)):
        if count < FEW_TRIALS:
            yield f"only {count_of(count, f'{name} trial')}: every rate is coarse"
    if np.count_nonzero(np.diff(ranking.scores)) < 2:
        yield "fewer than 3 different scores: these are decisions, an EER needs scores"
    # The classes exchanged: spoofed trials first among equals.
    is_spoof, _ = merge_sorted(ranking.scores[~ranking.is_bonafide], ranking.scores[ranking.is_bonafide])
    opposite = eer_of_curve(replace(ranking, is_bonafide=~is_spoof).curve()).eer
    if abs(opposite - eer) > LEAST_SHOWN:
        yield (
            f"ties decide the EER: {format_measure(eer)} with bona fide trials before spoofed ones of the same "
            f"score, as the challenges sort, {format_measure(opposite)} with spoofed ones first"
        )


def _warn_of_calibration(calibration: Calibration, joined: JoinedScores, eer: float) -> Iterator[str]:
    """Yields where a calibration makes equals of scores, and where it was not fitted."""
    before = compute_eer(joined.scores[joined.is_bonafide], joined.scores[~joined.is_bonafide]).eer
    if abs(before - eer) > LEAST_SHOWN:
        yield (
            "the calibration makes equals of scores that the file tells apart: EER "
            f"{format_measure(eer)}, without it {format_measure(before)}"
        )
    if outside := describe_outside(calibration, joined.scores):
        yield outside


def describe_outside(calibration: Calibration, scores: NDArray[np.float64]) -> str:
    """Returns how many scores lie outside those of a calibration's fit; empty where none does."""
    num_outside = np.count_nonzero(are_outside(calibration, scores))
    if calibration.score_range is None or not num_outside:
        return ""
    low, high = calibration.score_range
    fate = "held at those of its ends" if isinstance(calibration, PavCalibration) else "extrapolated"
    return (
        f"outside the scores that the calibration was fitted on, {low:g} to {high:g}: {num_outside:,} of "
        f"{scores.size:,} scores, whose log-likelihood ratios are {fate}"
    )


def _warn_of_asv(everything: Condition, joined: JoinedScores, asv: AsvScores) -> Iterator[str]:
    """Yields whether the ASV met other trials than those of the key, and which attacks it did not meet."""
    if not asv.meets(joined.key.names):
        yield (
            "the ASV scores hold none of the key's trials, so that the t-DCF is that of another corpus's speaker "
            "verification"
        )
        return
    attacks = everything.find(ATTACK)
    if attacks is None or everything.tandem is None:
        return
    named = set(attacks.values) - {UNKNOWN, "bonafide"}
    known, met = everything.tandem.attacks, everything.tandem.attacks & named
    if named and not known:
        yield (
            "the ASV scores do not name their attacks, so that intervals of the t-DCF take the ASV's acceptance of "
            "these very attacks for granted"
        )
    elif named and not met:
        yield (
            "the ASV scores know none of the attacks of the key, so that the t-DCF is that of another corpus's "
            "speaker verification"
        )
    elif met != named:
        yield f"the ASV scores know {len(met)} of the {len(named)} attacks of the key"
    elif named and asv.spoofed_names is None and joined.coverage.is_complete:
        yield from _warn_of_counts(attacks, everything, asv)


def _warn_of_counts(attacks: Factor, everything: Condition, asv: AsvScores) -> Iterator[str]:
    """Yields whether ASV scores that name no trials can be those of the key, by how many there are of each attack."""
    spoofed = asv.fields.select(asv.roles == Role.SPOOF)[ATTACK]
    met = Counter(spoofed.tolist())
    trials = everything.ranking.trials[~everything.ranking.is_bonafide]
    counts = np.bincount(attacks.codes[trials], minlength=len(attacks.values)).tolist()
    keyed = dict(zip(attacks.values, counts, strict=True))
    other = [name for name, count in keyed.items() if count and name in met and met[name] % count]
    if other:
        name = other[0]
        yield (
            f"the ASV scores name no trials, and have {met[name]:,} spoofed ones of attack {name} where the key has "
            f"{keyed[name]:,}: if they are of another corpus, so is the speaker verification of the t-DCF"
        )
