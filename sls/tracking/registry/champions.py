"""Policies: which version is to be the champion, and why."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mlflow import MlflowClient

from sls.config import Config
from sls.tracking.registry.stages import ARCHIVED
from sls.tracking.store import REGISTERED_MODEL_NAME, find_versions
from sls.tracking.tags import (
    CHECKPOINT_TAG,
    COST_ENDING,
    COST_KEY_ENDING,
    COST_SOURCE_ENDING,
    EER_ENDING,
    KEY_ENDING,
    STAGE_TAG,
    evaluated_place,
)

# The champion is the best version on this track: the largest, and the one whose attacks training has not seen.
CHAMPION_TRACK = "DF"

BY_EER, BY_COST, BY_WORST = POLICIES = ("eer", "act_dcf", "worst")
"""By what the champion is chosen."""
COST_REMEDY = "mlflow run . -e operating_point writes the cost of decisions on the versions of its models"


@dataclass(frozen=True)
class Champion:
    """The version that a policy prefers, and why."""

    version: str
    reason: str


def choose_champion(client: MlflowClient, place: str = CHAMPION_TRACK, by: str = BY_EER) -> Champion:
    """Chooses the best version by a policy, the newer one of equals; archived ones are left out.

    Args:
        client: The tracking store.
        place: The track, by its `evaluated_place`; of the worst track several, separated by commas.
        by: `eer`; `act_dcf`, the cost of its decisions there by a calibration of another track; or `worst`, the
            highest EER over the tracks.

    Raises:
        ValueError: no version has been evaluated there, or several tracks for another policy than the worst.
    """
    places = [name.strip() for name in place.split(",")]
    if by != BY_WORST and len(places) > 1:
        raise ValueError(f"champion: found {place}, expected one track, or several by={BY_WORST}")
    candidates = [item for item in find_versions(client) if item.tags.get(STAGE_TAG) != ARCHIVED]
    ending = COST_ENDING if by == BY_COST else EER_ENDING
    evaluated = {
        int(item.version): item.tags
        for item in candidates
        if all(name + ending in item.tags for name in places)
    }
    if not evaluated:
        names = {name for item in candidates for name in item.tags if name.endswith(ending)}
        tracks = ", ".join(sorted(name.removesuffix(ending) for name in names))
        have = f"; there are evaluations on {tracks}" if tracks else ""
        remedy = f"; {COST_REMEDY}" if by == BY_COST else ""
        raise ValueError(
            f"champion: no version of {REGISTERED_MODEL_NAME} has been evaluated on {place}{have}{remedy}"
        )
    # Figures on different data do not compare: only versions evaluated on the newest one's keys take part, and
    # costs only by a calibration of the same track.
    bases = (COST_KEY_ENDING, COST_SOURCE_ENDING) if by == BY_COST else (KEY_ENDING,)
    basis = [name + base for name in places for base in bases]
    wanted = [evaluated[max(evaluated)].get(name) for name in basis]
    rivals = {
        version: max((float(tags[name + ending]), name) for name in places)
        for version, tags in evaluated.items()
        if [tags.get(name) for name in basis] == wanted
    }
    best = min(rivals, key=lambda version: (rivals[version][0], -version))
    value, where = rivals[best]
    found = {
        BY_EER: f"the lowest EER on {where}, {value:.2f} %",
        BY_COST: f"the lowest actual cost on {where}, {value:.4f}, by a calibration of {wanted[-1]}",
        BY_WORST: f"the lowest EER on its worst track, {value:.2f} % on {where} of {', '.join(places)}",
    }
    reason = (
        f"version {best} has {found[by]}, "
        f"of {len(rivals)} version{'s' if len(rivals) > 1 else ''} evaluated on the same key"
    )
    if equals := [str(version) for version in rivals if rivals[version][0] == value and version != best]:
        reason += f"; so has {', '.join(equals)}, and the newest is taken"
    return Champion(str(best), reason)


def comparable_place(settings: Sequence[Config], corpus: str, tracks: Collection[str]) -> str:
    """Returns the `evaluated_place` in which recipes compare, by their settings and tracks; empty if in none."""
    precisions = {setting.compute.precision for setting in settings}
    has_windows = any(setting.scoring.window_hop for setting in settings)
    if CHAMPION_TRACK not in tracks or has_windows or len(precisions) > 1:
        return ""
    return evaluated_place(corpus, CHAMPION_TRACK, *precisions)


def explain_champion(champion: str, best: Champion | None) -> str:
    """Returns which version is the champion (empty for none), and why it is or is not the preferred one."""
    if best and best.version == champion:
        return best.reason
    reason = f"although {best.reason}" if best else f"nothing comparable was evaluated on {CHAMPION_TRACK}"
    return f"{f'version {champion}' if champion else 'none'}, as before; {reason}"


def note_costs(client: MlflowClient, model_id: str, tags: Mapping[str, str]) -> None:
    """Writes what the decisions of a checkpoint cost on each version of it, by their names."""
    for version in find_versions(client):
        if version.tags.get(CHECKPOINT_TAG) == model_id:
            for name, value in tags.items():
                client.set_model_version_tag(REGISTERED_MODEL_NAME, version.version, name, value)
