"""What of the settings decides over scores, and what is advised where scores of others are found."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sls.config import ComputeConfig, ScoringConfig
from sls.engine.scoring.partial_scores import EARLIER_SETTINGS

REMEDY = "name another output, or add force=true to score anew"
SETTINGS = ("precision", "backend", "resampler", "window_hop", "window_combination")
"""Names of what `settings_of` returns."""


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


def binding_key(binding: dict[str, Any]) -> str:
    """Returns a short name for a binding: the same for the same model, protocol and settings.

    Settings that earlier scores do not name are left out where they are as they were then.
    """
    named = {name: value for name, value in binding.items() if (name, value) not in EARLIER_SETTINGS.items()}
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:16]
