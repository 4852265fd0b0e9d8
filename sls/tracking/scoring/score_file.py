"""The score file on disk: what it was made with, whether it is already there, and how it becomes whole."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from sls.config import PROJECT_ROOT
from sls.data.tables.score_files import write_scores
from sls.engine.scoring.partial_scores import EARLIER_SETTINGS, JournalHeader, read_journal
from sls.engine.scoring.settings import REMEDY, SETTINGS, binding_key
from sls.engine.scoring.shards import WHOLE, Shard, journal_path, shard_journals
from sls.files import file_digest, scratch_directory, write_whole
from sls.tracking.registry.lineage import link_checkpoint
from sls.tracking.run import TrackedRun
from sls.tracking.store import FINISHED, find_first_run, tagged
from sls.tracking.tags import KEY_TAG, MODEL_ID_TAG, TRAIN_RUN_TAG

SCORES_DIRECTORY = "scores"
OUTPUT_DIRECTORY = PROJECT_ROOT / "outputs" / "scores"
_ABOUT = ("track", "corpus", "model", "protocol", "counts", "model_tags", "versions", "hardware")

logger = logging.getLogger(__name__)


def sidecar_path(output: Path) -> Path:
    """Returns the JSON beside a score file."""
    return output.with_name(f"{output.name}.json")


def check_output(output: Path) -> None:
    """Raises ValueError where a score file cannot be put: what is found at the end of the work comes too late."""
    if output.is_dir():
        raise ValueError(f"output: found the directory {output}, expected a file to write")


def default_output(name: str, binding: dict[str, Any]) -> Path:
    """Returns where scores go by default: the same place for the same model, protocol and settings."""
    return OUTPUT_DIRECTORY / binding_key(binding) / f"{name}.txt"


def write_score_file(output: Path, header: JournalHeader, names: Sequence[str], scores: np.ndarray) -> None:
    """Writes a score file and what it was made with, then removes the journals.

    A score file that is there is whole: it appears last, by renaming. Whoever finds journals beside it after that
    may remove them.

    Raises:
        ValueError: names or scores that a score file cannot hold.
    """
    with write_whole(output) as scored:
        write_scores(scored, names, scores)
        sidecar = {**header.about, **header.binding, "scores_sha256": file_digest(scored)}
        with write_whole(sidecar_path(output)) as described:
            described.write_text(json.dumps(sidecar, indent=2) + "\n", encoding="utf-8")
    remove_journals(output)


def is_finished(output: Path, binding: Mapping[str, Any], remedy: str = REMEDY) -> bool:
    """Whether a score file is there, whole, of this model, protocol and settings.

    Raises:
        ValueError: one of something else is there; the line names what differs.
    """
    header = read_header(output, remedy)
    if header is None:
        return False
    found = {name: header.binding.get(name) for name in binding}
    JournalHeader(found, {}).check(binding, output, remedy)
    return True


def read_header(output: Path, remedy: str = REMEDY) -> JournalHeader | None:
    """Returns what the score file that is there was made with; None where there is none.

    Raises:
        ValueError: its JSON is missing, or is of another content.
    """
    if not output.is_file():
        return None
    sidecar = _read_sidecar(output)
    if sidecar is None:
        raise ValueError(f"{output}: found a score file without the JSON that says what made it; {remedy}")
    about = {name: sidecar.pop(name) for name in _ABOUT if name in sidecar}
    return JournalHeader({**EARLIER_SETTINGS, **sidecar}, about)


def _read_sidecar(output: Path) -> dict[str, Any] | None:
    """Returns the JSON beside a score file less the digest; None where it is not of this file."""
    try:
        sidecar: dict[str, Any] = json.loads(sidecar_path(output).read_text(encoding="utf-8"))
        return sidecar if sidecar.pop("scores_sha256") == file_digest(output) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def known_batch_size(output: Path) -> int | None:
    """Returns the batch size of what is there of a score file, which an automatic choice takes over."""
    try:
        return int(json.loads(sidecar_path(output).read_text(encoding="utf-8"))["eval_batch_size"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    path = journal_path(output)
    content = read_journal(path) if path.is_file() else None
    return int(content.header.binding["eval_batch_size"]) if content else None


def remove_output(output: Path, shard: Shard = WHOLE) -> None:
    """Removes a score file, so that it is made anew, all of it or a shard; the other shards keep their journals."""
    output.unlink(missing_ok=True)
    sidecar_path(output).unlink(missing_ok=True)
    if shard == WHOLE:
        remove_journals(output)
    else:
        journal_path(output, shard).unlink(missing_ok=True)


def remove_journals(output: Path) -> None:
    """Removes the journals of a score file."""
    for path in [journal_path(output), *shard_journals(output)]:
        path.unlink(missing_ok=True)


def describe_scores(run: TrackedRun, header: JournalHeader, key: str) -> None:
    """Records what is scored, with what and how; `key` is the same for the same model, protocol and settings."""
    about, binding = header.about, header.binding
    settings = {name: binding[name] for name in ("checkpoint_sha256", *SETTINGS, "linear_layers")}
    run.set_tags(
        {"track": about["track"], "corpus": about["corpus"], **settings, KEY_TAG: key, **about["model_tags"]}
    )
    if digest := binding["protocol_sha256"]:
        run.set_tags({"protocol": about["protocol"], "protocol_sha256": digest})
        # The protocol need not be at hand where shards are joined.
        name = f"{about['corpus']}-{about['track']}"
        run.log_dataset_of(about["protocol"], digest, about.get("counts", {}), name, "scoring")


def record_score_file(run: TrackedRun, output: Path, model_tags: Mapping[str, str]) -> None:
    """Keeps a score file and its JSON as artifacts of a run, and leads to it from the checkpoint's other runs."""
    run.log_file(sidecar_path(output), SCORES_DIRECTORY)
    run.log_file(output, SCORES_DIRECTORY)
    link_checkpoint(run.client, model_tags.get(MODEL_ID_TAG, ""), model_tags.get(TRAIN_RUN_TAG, ""))


def fetch_finished(client: MlflowClient, experiment: str, key: str, output: Path) -> bool:
    """Fetches the scores of a finished scoring run of the same model, protocol and settings, if there is one."""
    same = tagged(kind="score", **{KEY_TAG: key})
    run = find_first_run(client, same, FINISHED, experiments=[experiment])
    if run is None:
        return False
    uri = f"runs:/{run.info.run_id}/{SCORES_DIRECTORY}"
    with scratch_directory() as directory:
        try:
            kept = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(directory)))
        except MlflowException as error:
            logger.warning("%s: not to be had, so trials are scored anew: %s", uri, error)
            return False
        found = next((path.with_suffix("") for path in kept.glob("*.json")), kept)
        if _read_sidecar(found) is None:
            logger.warning("%s: found no whole score file, so trials are scored anew", uri)
            return False
        for source, target in ((sidecar_path(found), sidecar_path(output)), (found, output)):
            with write_whole(target) as temporary:
                shutil.copyfile(source, temporary)
    return True
