"""Which version is in production, and which is the champion.

A stage is a tag of a version (MLflow's own stages are deprecated). One version at most is in production: the one with
that tag and the alias `champion`, by which it is served. While none is in production, the champion is whatever
a policy has named.

A move takes several calls to the registry, and the one that moves the alias decides: a process that is killed before
it leaves the old state, and one killed after it the new. What is left are tags of versions that are not served, which
the next move puts right.
"""

import logging
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from sls.data.corpora.corpus import DEMO_CORPUS
from sls.quotation import did_you_mean
from sls.tracking.store import REGISTERED_MODEL_NAME, find_versions
from sls.tracking.tags import CORPUS_TAG, STAGE_TAG

PRODUCTION = "production"
ARCHIVED = "archived"
STAGES = ("staging", PRODUCTION, ARCHIVED)
CHAMPION = "champion"

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
    """Returns a version of `xlsr-sls`; raises ValueError with those that there are."""
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
    if before and _is_synthetic(client, version) and not _is_synthetic(client, before):
        logger.warning("%s stays at version %s, not known to be of the synthetic corpus", alias, before)
        return before
    client.set_registered_model_alias(REGISTERED_MODEL_NAME, alias, version)
    return version


def _tagged_production(client: MlflowClient) -> list[str]:
    """Returns the versions that have the tag: more than one while a move is under way, or was cut off."""
    return [str(item.version) for item in find_versions(client) if item.tags.get(STAGE_TAG) == PRODUCTION]


def _set_stage(client: MlflowClient, version: str, stage: str) -> None:
    client.set_model_version_tag(REGISTERED_MODEL_NAME, version, STAGE_TAG, stage)


def _is_synthetic(client: MlflowClient, version: str) -> bool:
    return bool(get_version(client, version).tags.get(CORPUS_TAG) == DEMO_CORPUS)
