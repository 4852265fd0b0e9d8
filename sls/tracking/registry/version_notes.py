"""What was evaluated of a checkpoint, noted on its registered versions."""

from __future__ import annotations

from mlflow import MlflowClient

from sls.tracking.registry.model_card import newest_evaluations, renew_evaluations
from sls.tracking.registry.stages import eer_tag, evaluated_place, key_tag
from sls.tracking.store import REGISTERED_MODEL_NAME, find_versions
from sls.tracking.tags import NOT_COMPARABLE_TAG


def note_evaluations(client: MlflowClient, checkpoint_model_id: str) -> None:
    """Writes what was evaluated of a checkpoint on each registered version of it, and into its card."""
    tags = evaluated_eer_tags(client, checkpoint_model_id)
    for version in find_versions(client):
        if version.tags.get("checkpoint_model_id") != checkpoint_model_id:
            continue
        for name, value in tags.items():
            client.set_model_version_tag(REGISTERED_MODEL_NAME, version.version, name, value)
        card = version.description or ""
        renewed = renew_evaluations(client, card, checkpoint_model_id, version.tags.get("run_id", ""))
        if renewed != card:
            client.update_model_version(REGISTERED_MODEL_NAME, version.version, renewed)


def evaluated_eer_tags(client: MlflowClient, checkpoint_model_id: str) -> dict[str, str]:
    """Returns the version tags for a checkpoint's newest evaluation of each track: its EER, and what that rests on.

    Evaluations that do not compare with those of other versions, such as of another subset, are left out.
    """
    tags = {}
    for run in newest_evaluations(client, checkpoint_model_id):
        if NOT_COMPARABLE_TAG in run.data.tags:
            continue
        known, track = run.data.tags, run.data.tags["track"]
        place = evaluated_place(known.get("corpus", ""), track, known.get("precision", ""))
        tags[eer_tag(place)] = f"{run.data.metrics[f'{track}/eer_percent']:.4f}"
        if "key_sha256" in known:
            tags[key_tag(place)] = known["key_sha256"]
    return tags
