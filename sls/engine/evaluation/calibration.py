"""Fitting a calibration on one score file, and keeping it as a small JSON file."""

import json
from dataclasses import replace
from pathlib import Path

from sls.data.tables.score_files import JoinedScores
from sls.files import write_whole
from sls.metrics.calibration import MAX_NAME, Calibration, calibration_from_dict, fit_logistic, fit_pav
from sls.plain_data import parse_json
from sls.quotation import quote, shorten

METHODS = ("logistic", "pav")


def fit_calibration(joined: JoinedScores, method: str = "logistic", name: str = "") -> Calibration:
    """Fits a map from scores to log-likelihood ratios (bona fide against spoof, natural logarithm).

    Args:
        joined: Scores of known trials; others than those to which the calibration will be applied.
        method: `logistic` (a line, two numbers) or `pav` (the best monotone curve).
        name: What to call these trials; empty for the name of the key.

    Raises:
        ValueError: An unknown method, no labels, one class only, or constant scores; the error names the
            file.
    """
    if method not in METHODS:
        raise ValueError(f"fit_calibration: found {quote(method)}, expected logistic or pav")
    is_bonafide = joined.is_bonafide
    bonafide, spoof = joined.scores[is_bonafide], joined.scores[~is_bonafide]
    try:
        fitted = fit_logistic(bonafide, spoof) if method == "logistic" else fit_pav(bonafide, spoof)
    except ValueError as error:
        raise ValueError(f"{joined.table.place}: {error}") from None
    counts = f"{bonafide.size:,} bona fide and {spoof.size:,} spoofed trials"
    where = shorten(name or joined.key.source.name, MAX_NAME // 2)
    return replace(fitted, fitted_on=f"{where} ({counts})")


def save_calibration(path: str | Path, calibration: Calibration) -> None:
    """Writes a calibration as JSON; whole, or not at all."""
    with write_whole(Path(path)) as temporary:
        temporary.write_text(json.dumps(calibration.to_dict(), indent=1) + "\n", encoding="utf-8")


def load_calibration(path: str | Path) -> Calibration:
    """Reads a calibration; raises FileNotFoundError, or ValueError, with the file, where it is none."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such calibration file")
    try:
        return calibration_from_dict(parse_json(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError(f"{path}: found no JSON, expected a calibration as evaluate fits it") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
