"""From scores to log-likelihood ratios (LLR).

A calibration is fitted on scores of known trials and applied to others. Its LLR says by which factor a score
speaks for bona fide against spoof, in natural logarithm, so that decisions follow from priors and costs
(`sls.metrics.dcf.DetectionCosts.threshold`). Source: Brümmer and du Preez, "Application-independent evaluation of
speaker detection", Computer Speech and Language 2006 (PAV, section 8), and that of `sls.metrics.logistic`.
"""

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sls.metrics.cllr import count_by_score, pool_adjacent_violators
from sls.metrics.eer import check_scores
from sls.metrics.logistic import fit_linear_llr
from sls.quotation import quote

MAX_NUMBER, MAX_LLR = 1e100, 1e9
"""Of a calibration: far above those of any fit, and far below what turns LLRs into infinities."""


@dataclass(frozen=True)
class LogisticCalibration:
    """LLR = scale * score + offset."""

    scale: float
    offset: float
    score_range: tuple[float, float] | None = None
    """Lowest and highest score of the fit; beyond them the line is extrapolated. None in files that lack it."""
    fitted_on: str = ""
    """Which trials, and how many; empty in files that lack it."""

    def apply(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Returns the LLR of each score, of the same shape."""
        return self.scale * np.asarray(scores, dtype=np.float64) + self.offset

    def to_dict(self) -> dict[str, Any]:
        """Returns what JSON can hold."""
        return {"method": "logistic", **asdict(self)}


@dataclass(frozen=True)
class PavCalibration:
    """A monotone curve through points, straight between them and level beyond the ends."""

    scores: tuple[float, ...]
    """Ascending."""
    llrs: tuple[float, ...]
    """Not descending; as many."""
    fitted_on: str = ""
    """As of `LogisticCalibration`."""

    @property
    def score_range(self) -> tuple[float, float]:
        """Lowest and highest score of the fit; beyond them the LLR is that of the end."""
        return self.scores[0], self.scores[-1]

    def apply(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Returns the LLR of each score, of the same shape."""
        return np.interp(np.asarray(scores, dtype=np.float64), self.scores, self.llrs)

    def to_dict(self) -> dict[str, Any]:
        """Returns what JSON can hold."""
        return {"method": "pav", **asdict(self)}


Calibration = LogisticCalibration | PavCalibration
MAX_NAME = 300
"""Characters of what a calibration says of its trials: every served answer repeats it."""
OUTSIDE, UNPROVEN = "outside", "unproven"
"""The warnings of a score that lies outside those of the fit, and of an LLR beyond `PROVEN_LLR`."""
PROVEN_LLR = math.log(1e4)
"""Few lists of trials bear out more than ten thousand to one: a fit gives it where a threshold parts its classes."""
OUTSIDE_SLACK = 1e-4
"""Of their range: another batch, or fewer digits in a file, move a score by less."""


def are_outside(calibration: Calibration, scores: ArrayLike) -> NDArray[np.bool_]:
    """Returns which scores lie outside those of the fit, as far as these are known; of the same shape."""
    low, high = calibration.score_range or (-math.inf, math.inf)
    slack = OUTSIDE_SLACK * (high - low) if math.isfinite(high) else 0.0
    scores = np.asarray(scores, dtype=np.float64)
    return (scores < low - slack) | (scores > high + slack)


def warn_of_llr(calibration: Calibration, score: float) -> list[str]:
    """Returns the warnings of a score and its LLR."""
    is_unproven = abs(calibration.apply(score)) > PROVEN_LLR
    return [OUTSIDE] * bool(are_outside(calibration, score)) + [UNPROVEN] * bool(is_unproven)


def describe_calibration(calibration: Calibration) -> str:
    """Returns how and on what a calibration was fitted, and how far the scores reached."""
    ends = calibration.score_range
    reach = f"whose scores were {ends[0]:.6g} to {ends[1]:.6g}" if ends else "whose scores are not known"
    trials = calibration.fitted_on or "unnamed trials"
    return f"{calibration.to_dict()['method']}, fitted on {trials}, {reach}"


def calibration_from_dict(content: Any) -> Calibration:
    """Builds a calibration from what `to_dict` returned; raises ValueError for what none can be."""
    method = content.get("method") if isinstance(content, dict) else None
    try:
        if method == "logistic":
            return _read_line(content)
        if method == "pav":
            return _read_curve(content)
    except (KeyError, TypeError, OverflowError):
        pass
    except ValueError as error:
        raise ValueError(f"not a calibration: {error}") from None
    raise ValueError(f"not a calibration: found method {quote(method)}, expected logistic or pav")


def _read_line(content: dict[str, Any]) -> LogisticCalibration:
    scale, offset = float(content["scale"]), float(content["offset"])
    are_finite = math.isfinite(scale) and math.isfinite(offset)
    _require(are_finite, f"scale {scale:g} and offset {offset:g}", "finite numbers")
    _require(scale > 0, f"scale {scale:g}", "one above 0, or scores would be turned round")
    ends, fitted_on = content.get("score_range"), _read_fitted_on(content)
    if ends is None:
        return _within_bounds(LogisticCalibration(scale, offset, None, fitted_on))
    low_high = tuple(map(float, ends))
    is_range = len(low_high) == 2 and -math.inf < low_high[0] < low_high[1] < math.inf
    _require(is_range, f"score_range {quote(ends)}", "the lowest and the highest score of the fit")
    return _within_bounds(LogisticCalibration(scale, offset, (low_high[0], low_high[1]), fitted_on))


def _within_bounds(line: LogisticCalibration) -> LogisticCalibration:
    """Refuses numbers that no scores lead to, and that would turn LLRs into infinities."""
    most = max(abs(line.scale), abs(line.offset), *map(abs, line.score_range or ()))
    numbers = f"scale {line.scale:g}, offset {line.offset:g} and score_range {line.score_range}"
    _require(most <= MAX_NUMBER, numbers, f"numbers of at most {MAX_NUMBER:g}")
    llrs = np.abs(line.apply(line.score_range or (-1.0, 1.0))).max()
    _require(llrs <= MAX_LLR, f"{numbers}, which give LLRs of {llrs:g}", f"LLRs of at most {MAX_LLR:g}")
    return line


def _read_curve(content: dict[str, Any]) -> PavCalibration:
    scores, llrs = (tuple(map(float, content[name])) for name in ("scores", "llrs"))
    counts = f"{len(scores)} scores and {len(llrs)} llrs"
    _require(0 < len(scores) == len(llrs), counts, "as many of each, one at least")
    for name, values in (("scores", scores), ("llrs", llrs)):
        _require(all(map(math.isfinite, values)), f"{name} that are NaN or infinite", "finite numbers")
        most, allowed = max(map(abs, values)), MAX_NUMBER if name == "scores" else MAX_LLR
        _require(most <= allowed, f"{name} of {most:g}", f"at most {allowed:g}")
        ascends = all(earlier <= later for earlier, later in pairwise(values))
        _require(ascends, f"{name} that descend", "ascending ones, or scores would be turned round")
    return PavCalibration(scores, llrs, _read_fitted_on(content))


def _read_fitted_on(content: dict[str, Any]) -> str:
    text = content.get("fitted_on", "")
    is_name = isinstance(text, str) and len(text) <= MAX_NAME and text.isprintable()
    _require(is_name, f"fitted_on {quote(text)}", f"a line of at most {MAX_NAME} characters")
    return str(text)


def _require(holds: bool, found: str, expected: str) -> None:
    if not holds:
        raise ValueError(f"found {found}, expected {expected}")


def fit_logistic(bonafide: ArrayLike, spoof: ArrayLike) -> LogisticCalibration:
    """Fits LLR = scale * score + offset by logistic regression, both classes weighing the same.

    Args as `sls.metrics.eer.det_curve`.

    Raises:
        ValueError: A class is missing, the scores are NaN, infinite or all the same, or bona fide trials score
            lower rather than higher, so that the line would turn scores round.
    """
    bonafide, spoof = check_scores(bonafide, spoof)
    fit = fit_linear_llr(bonafide[None], spoof[None])
    (scale,), (score_range,) = fit.weights, fit.score_ranges
    if scale <= 0:
        raise ValueError(
            f"calibration: found scores that fall where trials are bona fide (slope {scale:.3g}), expected ones that "
            "rise: negate them, or calibrate a system that tells the classes apart"
        )
    return _within_bounds(LogisticCalibration(scale, fit.offset, score_range))


def fit_pav(bonafide: ArrayLike, spoof: ArrayLike) -> PavCalibration:
    """Fits the best monotone map from scores to LLRs by pooling adjacent violators.

    Where the trials of the lowest or the highest score are all of one class, one of each class is added there
    (Laplace's rule of succession), so that no LLR is infinite. Every other block has the LLR of its own trials.

    Args and errors as `sls.metrics.eer.det_curve`.
    """
    bonafide, spoof = check_scores(bonafide, spoof)
    scores, bonafide_counts, spoof_counts = count_by_score(bonafide, spoof)
    for end, absent in ((0, bonafide_counts), (-1, spoof_counts)):
        if absent[end] == 0:
            bonafide_counts[end] += 1
            spoof_counts[end] += 1
    blocks = pool_adjacent_violators(bonafide_counts, spoof_counts)
    # One rounding alone: odds that are equal stay equal.
    llrs = np.log(blocks.bonafide * spoof.size / (blocks.spoof * bonafide.size))
    # A block is level from its first to its last score.
    points, firsts = np.unique(scores[np.stack([blocks.starts, blocks.ends], axis=1)], return_index=True)
    return PavCalibration(tuple(points.tolist()), tuple(np.repeat(llrs, 2)[firsts].tolist()))
