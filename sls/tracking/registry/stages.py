"""Which version is in production, and which is the champion.

A stage is a tag of a version (MLflow's own stages are deprecated). One version at most is in production: the one with
that tag and the alias `champion`, by which it is served. While none is in production, the champion is whatever
a policy has named.

A move takes several calls to the registry, and the one that moves the alias decides: a process that is killed before
it leaves the old state, and one killed after it the new. What is left are tags of versions that are not served, which
the next move puts right.
"""

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from sls.config import Config
from sls.data.corpora.corpus import DEMO_CORPUS, PUBLISHED_CORPORA
from sls.quotation import did_you_mean
from sls.tracking.store import REGISTERED_MODEL_NAME, find_known_run, find_versions
from sls.tracking.tags import CHECKPOINT_TAG, CORPUS_TAG, STAGE_TAG

PRODUCTION = "production"
ARCHIVED = "archived"
STAGES = ("staging", PRODUCTION, ARCHIVED)
CHAMPION = "champion"
# The champion is the best version on this track: the largest, and the one whose attacks training has not seen.
CHAMPION_TRACK = "DF"

BY_EER, BY_COST, BY_WORST = POLICIES = ("eer", "act_dcf", "worst")
"""By what the champion is chosen."""
COST_REMEDY = "mlflow run . -e operating_point writes the cost of decisions on the versions of its models"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageMove:
    """What a move has changed."""

    version: str
    before: str
    """Its stage until now; empty if it had none."""
    after: str
    archived: tuple[str, ...]
    """Versions that made room in production."""
    champion: str
    """The champion now; empty if there is none."""


@dataclass(frozen=True)
class Champion:
    """The version that a policy prefers, and why."""

    version: str
    reason: str


def check_stage(stage: str) -> None:
    """Raises ValueError where this is no stage."""
    if stage not in STAGES:
        hint = did_you_mean(stage, STAGES)
        raise ValueError(f"stage: found {stage or 'nothing'}, expected one of {', '.join(STAGES)}{hint}")


def move_stage(client: MlflowClient, version: str, stage: str) -> StageMove:
    """Moves a version to a stage.

    Into production, the version that was there becomes archived, and `champion` points at the new one. Out of
    production, `champion` goes with it, so that no archived version is served by that name.

    Raises:
        ValueError: an unknown stage or version; or another process moved a version at the same time, so that
            production is no longer one version.
    """
    check_stage(stage)
    before = get_version(client, version).tags.get(STAGE_TAG, "")
    leaving = [other for other in _tagged_production(client) if other != version]
    if stage == PRODUCTION:
        _set_stage(client, version, stage)
        client.set_registered_model_alias(REGISTERED_MODEL_NAME, CHAMPION, version)
        for other in leaving:
            _set_stage(client, other, ARCHIVED)
        found = _tagged_production(client)
        if found != [version]:
            raise ValueError(
                f"production: found versions {', '.join(found)}, expected {version}; move it again"
            )
        return StageMove(version, before, stage, tuple(leaving), find_champion(client))
    if find_champion(client) == version and (before == PRODUCTION or stage == ARCHIVED):
        client.delete_registered_model_alias(REGISTERED_MODEL_NAME, CHAMPION)
    _set_stage(client, version, stage)
    return StageMove(version, before, stage, (), find_champion(client))


def get_version(client: MlflowClient, version: str) -> ModelVersion:
    """Returns a version of `xlsr-sls`.

    Raises:
        ValueError: there is none of that number; the message says which there are.
    """
    versions = {str(item.version): item for item in find_versions(client)}
    if version not in versions:
        have = ", ".join(sorted(versions, key=int)) or "none"
        raise ValueError(
            f"version: found {version}, expected a version of {REGISTERED_MODEL_NAME}; there are {have}"
        )
    return versions[version]


def in_production(client: MlflowClient) -> list[str]:
    """Returns the version in production, as a list of one, or an empty list."""
    champion = find_champion(client)
    return [champion] if champion in _tagged_production(client) else []


def find_champion(client: MlflowClient) -> str:
    """Returns the version that is the champion, or an empty string."""
    return find_alias(client, CHAMPION)


def find_alias(client: MlflowClient, alias: str) -> str:
    """Returns the version that an alias points at, or an empty string."""
    try:
        return str(client.get_model_version_by_alias(REGISTERED_MODEL_NAME, alias).version)
    except MlflowException:
        return ""


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
    name_of = cost_tag if by == BY_COST else eer_tag
    values = {name_of(name): name for name in places}
    evaluated = {int(item.version): item.tags for item in candidates if values.keys() <= item.tags.keys()}
    if not evaluated:
        suffix = name_of("")
        names = {name for item in candidates for name in item.tags if name.endswith(suffix)}
        tracks = ", ".join(sorted(name.removesuffix(suffix) for name in names))
        have = f"; there are evaluations on {tracks}" if tracks else ""
        remedy = f"; {COST_REMEDY}" if by == BY_COST else ""
        raise ValueError(
            f"champion: no version of {REGISTERED_MODEL_NAME} has been evaluated on {place}{have}{remedy}"
        )
    # Figures on different data do not compare: only versions evaluated on the newest one's keys take part, and
    # costs only by a calibration of the same track.
    basis = [key_tag(name) for name in places] + [cost_source_tag(name) for name in places if by == BY_COST]
    wanted = [evaluated[max(evaluated)].get(name) for name in basis]
    rivals = {
        version: max((float(tags[tag]), name) for tag, name in values.items())
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


def appoint_champion(client: MlflowClient, version: str) -> str:
    """Points the alias `champion` at a version, unless another one is in production, and returns the champion.

    What is served in production moves by command only (`move_stage`), not because an experiment has ended.
    """
    others = [other for other in in_production(client) if other != version]
    if others:
        logger.warning(
            "champion stays at version %s, which is in production; to change that: "
            "mlflow run . -e register -P version=%s -P stage=production",
            others[0],
            version,
        )
        return others[0]
    return point_alias(client, CHAMPION, version)


def point_alias(client: MlflowClient, alias: str, version: str) -> str:
    """Points an alias at a version and returns the version that it points at then.

    A version of the synthetic corpus does not take the place of one that was trained on anything else.
    """
    before = find_alias(client, alias)
    if before and _corpus_of(client, version) == DEMO_CORPUS != _corpus_of(client, before):
        logger.warning(
            "%s stays at version %s, which is not known to be of the synthetic corpus", alias, before
        )
        return before
    client.set_registered_model_alias(REGISTERED_MODEL_NAME, alias, version)
    return version


def evaluated_place(corpus: str, track: str, precision: str = "fp32") -> str:
    """Returns what the tags of a version call a track: `DF`, or `demo.DF.bf16` of another corpus and precision.

    An EER of one place does not take that of another.
    """
    name = track if corpus in ("", PUBLISHED_CORPORA) else f"{corpus}.{track}"
    name += "" if precision in ("", "fp32") else f".{precision}"
    return re.sub(r"[^\w ./-]", "_", name, flags=re.ASCII)


def note_costs(client: MlflowClient, model_id: str, tags: Mapping[str, str]) -> None:
    """Writes what the decisions of a checkpoint cost on each version of it, by `cost_tag` and `cost_source_tag`."""
    for version in find_versions(client):
        if version.tags.get(CHECKPOINT_TAG) == model_id:
            for name, value in tags.items():
                client.set_model_version_tag(REGISTERED_MODEL_NAME, version.version, name, value)


def key_tag(place: str) -> str:
    """Returns the name of the version tag that says on which key that EER was measured."""
    return f"{place}.key_sha256"


def eer_tag(place: str) -> str:
    """Returns the name of the version tag that holds the EER in percent at an `evaluated_place`."""
    return f"{place}.eer_percent"


def cost_tag(place: str) -> str:
    """Returns the name of the version tag that holds the actual DCF of its decisions, as of `eer_tag`."""
    return f"{place}.act_dcf"


def cost_source_tag(place: str) -> str:
    """Returns the name of the version tag that says on which track the calibration of that cost was fitted."""
    return f"{place}.act_dcf_from"


def _tagged_production(client: MlflowClient) -> list[str]:
    """Returns the versions that have the tag: more than one while a move is under way, or was cut off."""
    return [str(item.version) for item in find_versions(client) if item.tags.get(STAGE_TAG) == PRODUCTION]


def _set_stage(client: MlflowClient, version: str, stage: str) -> None:
    client.set_model_version_tag(REGISTERED_MODEL_NAME, version, STAGE_TAG, stage)


def _corpus_of(client: MlflowClient, version: str) -> str:
    tags = get_version(client, version).tags
    # Versions of before that tag know the run alone.
    run = None if CORPUS_TAG in tags else find_known_run(client, tags.get("run_id", ""))
    return str((run.data.tags if run else tags).get(CORPUS_TAG, ""))
