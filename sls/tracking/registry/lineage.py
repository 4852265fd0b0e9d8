"""What a checkpoint's runs and versions say of each other.

The descriptions of its runs lead to its other runs and its versions; its versions say how it was evaluated.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from sls.tracking.registry.model_card import newest_evaluations, renew_evaluations
from sls.tracking.registry.stages import eer_tag, evaluated_place, key_tag
from sls.tracking.run import one_line, run_link
from sls.tracking.store import REGISTERED_MODEL_NAME, find_active_run, find_runs_of_checkpoint, find_versions
from sls.tracking.tags import CHECKPOINT_TAG, NOT_COMPARABLE_TAG, NOTE_TAG, SCORE_RUN_TAG

MAX_LINKS = 8
"""Of each sort; a description has its limit."""
# What stands between these lines is written anew; the rest is left to its readers.
_BEGIN, _END = "<!-- lineage -->", "<!-- /lineage -->"

logger = logging.getLogger(__name__)


def link_checkpoint(client: MlflowClient, checkpoint_model_id: str, train_run_id: str = "") -> None:
    """Writes into each run of a checkpoint where its training, scores, evaluations and versions are.

    Descriptions do not decide how the caller's run ends: what the tracking store refuses is a warning.

    Args:
        client: the tracking store.
        checkpoint_model_id: the checkpoint's LoggedModel; with none, nothing is known of it and nothing is written.
        train_run_id: the run that made it; its description names all versions of its epochs.
    """
    if not checkpoint_model_id:
        return
    try:
        _link(client, checkpoint_model_id, train_run_id)
    except MlflowException as error:
        logger.warning("The runs of %s could not be linked: %s", checkpoint_model_id, one_line(error))


def note_evaluations(client: MlflowClient, checkpoint_model_id: str) -> None:
    """Writes what was evaluated of a checkpoint on each registered version of it, and into its card."""
    tags = evaluated_eer_tags(client, checkpoint_model_id)
    for version in find_versions(client):
        if version.tags.get(CHECKPOINT_TAG) != checkpoint_model_id:
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


def _link(client: MlflowClient, checkpoint_model_id: str, train_run_id: str) -> None:
    versions = find_versions(client)
    own = [item for item in versions if item.tags.get(CHECKPOINT_TAG) == checkpoint_model_id]
    scorings = find_runs_of_checkpoint(client, "score", checkpoint_model_id)
    evaluations = find_runs_of_checkpoint(client, "evaluate", checkpoint_model_id)
    training = find_active_run(client, train_run_id)
    origin = _origin_link(training) if training else {}
    for run in scorings:
        of_run = [item for item in evaluations if item.data.tags.get(SCORE_RUN_TAG) == run.info.run_id]
        _write(client, run, {**origin, "Evaluation": _links(of_run), "Version": _version_links(own)})
    for run in evaluations:
        scores = [item for item in scorings if run.data.tags.get(SCORE_RUN_TAG) == item.info.run_id]
        _write(client, run, {"Scores": _links(scores), **origin, "Version": _version_links(own)})
    if training:
        of_training = [item for item in versions if item.tags.get("run_id") == train_run_id]
        _write(client, training, {"Version": _version_links(of_training)})


def _origin_link(run: Run) -> dict[str, list[str]]:
    is_import = run.data.tags.get("kind") == "import_checkpoint"
    return {"Import" if is_import else "Training": [run_link(run)]}


def _links(runs: Sequence[Run]) -> list[str]:
    return [run_link(run) for run in runs[-MAX_LINKS:]]


def _version_links(versions: Iterable[ModelVersion]) -> list[str]:
    newest = sorted(versions, key=lambda item: int(item.version))[-MAX_LINKS:]
    return [
        f"[{REGISTERED_MODEL_NAME} {item.version}](#/models/{REGISTERED_MODEL_NAME}/versions/{item.version})"
        f" (epoch {item.tags.get('epoch') or 'unknown'})"
        for item in newest
    ]


def _write(client: MlflowClient, run: Run, links: dict[str, list[str]]) -> None:
    lines = [f"{name}: {', '.join(found)}" for name, found in links.items() if found]
    section = "\n".join([_BEGIN, "  \n".join(lines), _END])
    note = run.data.tags.get(NOTE_TAG, "")
    has_section = _BEGIN in note and _END in note
    if has_section:
        renewed = re.sub(f"{re.escape(_BEGIN)}.*{re.escape(_END)}", lambda _: section, note, flags=re.DOTALL)
    else:
        renewed = f"{note}\n\n{section}".strip()
    # A section whose last version was deleted is emptied; an empty one is not begun.
    if (lines or has_section) and renewed != note:
        client.set_tag(run.info.run_id, NOTE_TAG, renewed)
