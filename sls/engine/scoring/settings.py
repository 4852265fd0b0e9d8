"""What scores are made with: its names, how two of them are compared, and what is advised where they differ."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sls.config import ComputeConfig, ScoringConfig
from sls.data.conditions.conditions import CLEAN, Condition
from sls.quotation import quote, shorten

REMEDY = "name another output, or add force=true to score anew"
SETTINGS = ("precision", "backend", "resampler", "window_hop", "window_combination")
"""Names of what `settings_of` returns."""
DEGRADED = ("condition", "condition_settings")
"""Names of what `describe_condition` returns; clean scores have neither."""
CLEAN_SETTINGS = dict.fromkeys(DEGRADED, CLEAN)
"""What scores of recordings as they are do not name."""
DESCRIPTION = ("track", "corpus", "model", "protocol", "counts", "model_tags", "versions", "hardware")
"""What else is said of the making of scores; no score depends on it."""

_KINDS = {
    **dict.fromkeys(("num_trials", "eval_batch_size"), int),
    **dict.fromkeys(("track", "corpus", "model", "protocol", "protocol_sha256", *DEGRADED), str),
    **dict.fromkeys(("counts", "model_tags"), dict),
}


def settings_of(compute: ComputeConfig, scoring: ScoringConfig) -> dict[str, Any]:
    """Returns the settings that move scores by more than their last digits, by name."""
    return {
        "precision": compute.precision,
        "backend": compute.backend,
        "resampler": scoring.resampler,
        "window_hop": scoring.window_hop,
        # Without windows nothing is combined.
        "window_combination": scoring.window_combination if scoring.window_hop else "none",
    }


def describe_condition(condition: Condition | None) -> dict[str, str]:
    """Returns what degraded the recordings, by name; nothing where nothing did.

    Of two conditions with the same settings each has a name of its own, by which its generator is seeded.
    """
    return dict(zip(DEGRADED, (condition.name, condition.fingerprint), strict=True)) if condition else {}


def is_made_with(content: Any) -> bool:
    """Whether what a file says of the making of its scores has the form in which it is written."""
    if not isinstance(content, dict):
        return False
    values = ((content[name], kind) for name, kind in _KINDS.items() if name in content)
    least = {"num_trials": 0, "eval_batch_size": 1}
    return all(type(value) is kind for value, kind in values) and all(
        content.get(name, number) >= number for name, number in least.items()
    )


def check_same(found: Mapping[str, Any], expected: Mapping[str, Any], source: Path, remedy: str) -> None:
    """Refuses scores that are made with something else.

    Raises:
        ValueError: They are; the one line names in what they differ, and then the remedy.
    """
    found, expected = {**CLEAN_SETTINGS, **found}, {**CLEAN_SETTINGS, **expected}
    names = [name for name in _binding({**found, **expected}) if found.get(name) != expected.get(name)]
    if names:
        told = ", ".join(f"{name} {_tell(found.get(name))}" for name in names)
        wanted = ", ".join(f"{name} {_tell(expected.get(name))}" for name in names)
        raise ValueError(f"{source}: found scores with {told}, expected {wanted}; {remedy}")


def _tell(value: Any) -> str:
    return shorten(value) if isinstance(value, str) else quote(value)


def scores_key(made_with: Mapping[str, Any]) -> str:
    """Returns a short name: the same for the same model, protocol and settings."""
    return hashlib.sha256(json.dumps(_binding(made_with), sort_keys=True).encode()).hexdigest()[:16]


def _binding(made_with: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all that decides over scores, by name."""
    return {name: value for name, value in made_with.items() if name not in DESCRIPTION}
