"""The score file on disk: what it was made with, whether it is already there, and how it becomes whole."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from sls.config import WORK_ROOT
from sls.data.tables.score_files import lay_out
from sls.engine.scoring.partial_scores import (
    WHOLE,
    Shard,
    find_shards,
    join_shards,
    partial_path,
    read_partial,
)
from sls.engine.scoring.settings import (
    DEGRADED,
    REMEDY,
    SETTINGS,
    check_same,
    is_made_with,
    scores_key,
)
from sls.files import check_is_place, file_digest, scratch_directory, write_whole
from sls.plain_data import parse_json
from sls.processes import hold_lock
from sls.tracking.artifacts import download
from sls.tracking.registry.lineage import link_checkpoint, read_lineage
from sls.tracking.registry.parent_run import place_under_origin
from sls.tracking.run import TrackedRun
from sls.tracking.store import FINISHED, NEWEST_FIRST, find_first_run, tagged
from sls.tracking.tags import CONDITION_TAG, KEY_TAG, MODEL_ID_TAG, TRAIN_RUN_TAG

SCORES_DIRECTORY = "scores"
OUTPUT_DIRECTORY = WORK_ROOT / "outputs" / "scores"
IS_CLEAN = f"tags.{CONDITION_TAG} IS NULL"
"""The condition of `find_runs` for those of recordings as they are."""
IS_WHOLE = f"tags.{KEY_TAG} != '' and tags.shard IS NULL"
"""The condition of `find_runs` for those that keep a score file, once finished; some are evaluations of it too."""
HAS_SCORES = f"{IS_WHOLE} and {IS_CLEAN}"
"""The same, of recordings as they are: what stands for the scores of a track, where nobody names any."""
JOIN_REMEDY = "remove what is not wanted, or name another output"

logger = logging.getLogger(__name__)

_TAGGED = ("track", "corpus", "checkpoint_sha256", *SETTINGS, "linear_layers")


def sidecar_path(output: Path) -> Path:
    """Returns the JSON beside a score file."""
    return output.with_name(f"{output.name}.json")


def check_output(output: Path) -> None:
    """Raises ValueError where a score file, or what lies beside it, cannot be put; at the end that comes too late."""
    check_is_place(output, "output")  # first: `.` and `/` have no name to put anything beside
    for path in (sidecar_path(output), partial_path(output)):
        check_is_place(path, "output")


def write_score_file(output: Path, made_with: Mapping[str, Any], lines: Sequence[str]) -> None:
    """Writes a score file and what it was made with, then removes the partial files.

    A score file that is there is whole: it appears last, by renaming. Whoever finds partial files beside it after
    that may remove them.
    """
    with write_whole(output) as scored:
        with scored.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(lay_out(lines))
        sidecar = {**made_with, "scores_sha256": file_digest(scored)}
        with write_whole(sidecar_path(output)) as described:
            described.write_text(json.dumps(sidecar, indent=2) + "\n", encoding="utf-8")
    remove_partial_files(output)


def is_finished(output: Path, made_with: Mapping[str, Any]) -> bool:
    """Whether a score file is there, whole, of this model, protocol and settings.

    Raises:
        ValueError: one of something else is there; the line names what differs.
    """
    found = read_made_with(output)
    if found is None:
        return False
    check_same({name: found[name] for name in made_with if name in found}, made_with, output, REMEDY)
    return True


def read_made_with(output: Path, remedy: str = REMEDY) -> dict[str, Any] | None:
    """Returns what the score file that is there was made with; None where there is none.

    Raises:
        ValueError: its JSON is missing, or is of another content.
    """
    if not output.is_file():
        return None
    sidecar = _read_sidecar(output)
    if sidecar is None:
        raise ValueError(f"{output}: found a score file without the JSON that says what made it; {remedy}")
    return sidecar


def _read_sidecar(output: Path) -> dict[str, Any] | None:
    """Returns the JSON beside a score file less the digest; None where it is not of this file."""
    try:
        sidecar: dict[str, Any] = parse_json(sidecar_path(output).read_text(encoding="utf-8"))
        is_of_file = sidecar.pop("scores_sha256") == file_digest(output)
        return sidecar if is_of_file and is_made_with(sidecar) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def known_batch_size(output: Path) -> int:
    """Returns the batch size of what is there of a score file, for an automatic choice to take over; else 0."""
    made_with = _read_sidecar(output)
    if made_with is None:
        partial = read_partial(partial_path(output))
        made_with = partial.made_with if partial else {}
    return int(made_with.get("eval_batch_size", 0))


def remove_output(output: Path, shard: Shard = WHOLE) -> None:
    """Removes a score file, so that it is made anew, all of it or a shard; of that, the partial files stay."""
    output.unlink(missing_ok=True)
    sidecar_path(output).unlink(missing_ok=True)
    if shard == WHOLE:
        remove_partial_files(output)


def remove_partial_files(output: Path) -> None:
    """Removes the partial files of a score file."""
    for shard in (WHOLE, *find_shards(output)):
        partial_path(output, shard).unlink(missing_ok=True)


def describe_scores(run: TrackedRun, made_with: Mapping[str, Any], key: str) -> None:
    """Records what is scored, with what and how; `key` is the same for the same model, protocol and settings."""
    degraded = {name: made_with[name] for name in DEGRADED if name in made_with}
    tags = {name: made_with[name] for name in _TAGGED} | {KEY_TAG: key, **degraded}
    run.set_tags(tags | made_with["model_tags"])
    what = " ".join([made_with["track"], made_with.get(CONDITION_TAG, "")]).strip()
    place_under_origin(run, "score", made_with["model_tags"], what)
    if digest := made_with["protocol_sha256"]:
        run.set_tags({"protocol": made_with["protocol"], "protocol_sha256": digest})
        # The protocol need not be at hand where shards are joined.
        name = f"{made_with['corpus']}-{made_with['track']}"
        run.log_dataset_of(made_with["protocol"], digest, made_with.get("counts", {}), name, "scoring")


def record_score_file(run: TrackedRun, output: Path, model_tags: Mapping[str, str]) -> None:
    """Keeps a score file and its JSON as artifacts of a run, and leads to it from the checkpoint's other runs."""
    with run.artifacts(SCORES_DIRECTORY) as directory:
        for path in (output, sidecar_path(output)):
            shutil.copy2(path, directory)
    model_id, train_run_id = (model_tags.get(tag, "") for tag in (MODEL_ID_TAG, TRAIN_RUN_TAG))
    link_checkpoint(run.client, read_lineage(run.client, model_id, train_run_id))


def find_finished(client: MlflowClient, experiment: str, key: str) -> Run | None:
    """Returns the newest finished scoring run of the same model, protocol and settings, if there is one."""
    same = tagged(**{KEY_TAG: key})
    return find_first_run(client, same, IS_WHOLE, FINISHED, experiments=[experiment], order_by=NEWEST_FIRST)


def fetch_finished(client: MlflowClient, experiment: str, key: str, output: Path) -> Run | None:
    """Fetches the scores of what `find_finished` finds, and returns it; None where they are not to be had."""
    run = find_finished(client, experiment, key)
    if run is None:
        return None
    uri = f"runs:/{run.info.run_id}/{SCORES_DIRECTORY}"
    with scratch_directory() as directory:
        try:
            kept = download(uri, directory)
        except MlflowException as error:
            logger.warning("%s: not to be had, so trials are scored anew: %s", uri, error)
            return None
        found = next((path.with_suffix("") for path in kept.glob("*.json")), kept)
        if _read_sidecar(found) is None:
            logger.warning("%s: found no whole score file, so trials are scored anew", uri)
            return None
        for source, target in ((sidecar_path(found), sidecar_path(output)), (found, output)):
            with write_whole(target) as temporary:
                shutil.copyfile(source, temporary)
    return run


def track_join(run: TrackedRun, output: Path) -> bool:
    """Joins the shards of a score file and records it on a run, as if one process had written it.

    Returns:
        Whether they were joined now; False where a finished score file was found, which is recorded as it is.

    Raises:
        FileNotFoundError: there are no shards.
        ValueError: some are missing or not complete, or of different models, protocols or settings; or the score
            file that is there is of something else.
    """
    check_output(output)
    with hold_lock(output):
        made_with = read_made_with(output, JOIN_REMEDY)
        is_new = made_with is None
        shards = find_shards(output)
        if made_with is None:
            made_with, lines = join_shards(output, shards)
            write_score_file(output, made_with, lines)
        elif shards:
            for shard in shards:
                found = read_partial(partial_path(output, shard), JOIN_REMEDY)
                if found is not None:
                    check_same(made_with, found.made_with, output, JOIN_REMEDY)
            remove_partial_files(output)
        needed = (*_TAGGED, "protocol", "protocol_sha256", "model_tags", "num_trials")
        missing = [name for name in needed if name not in made_with]
        if missing:
            raise ValueError(
                f"{output}: found scores that do not say their {', '.join(missing)}; {JOIN_REMEDY}"
            )
        describe_scores(run, made_with, scores_key(made_with))
        named = {name: made_with[name] for name in ("protocol", "protocol_sha256")}
        run.set_tags({"kind": "score", **named})
        run.log_metrics({"score/num_trials": made_with["num_trials"]})
        record_score_file(run, output, made_with["model_tags"])
    return is_new
