"""Joining the shards of a score file, as a tracked run."""

from __future__ import annotations

from pathlib import Path

from sls.engine.scoring.partial_scores import JournalHeader
from sls.engine.scoring.settings import SETTINGS, binding_key
from sls.engine.scoring.shards import find_shards, join_shards, shard_journals
from sls.files import hold_lock
from sls.tracking.run import TrackedRun
from sls.tracking.scoring.score_file import (
    check_output,
    read_header,
    record_score_file,
    remove_journals,
    write_score_file,
)
from sls.tracking.tags import KEY_TAG

JOIN_REMEDY = "remove what is not wanted, or name another output"


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
        header = read_header(output, JOIN_REMEDY)
        is_new = header is None
        if header is None:
            header, names, scores = join_shards(output, find_shards(output))
            write_score_file(output, header, names, scores)
        elif shard_journals(output):
            shard = find_shards(output)[0]
            header.check(shard.header.binding, output, JOIN_REMEDY)
            remove_journals(output)
        run.set_tags(
            {
                **header.about["model_tags"],
                **{name: header.about[name] for name in ("track", "corpus", "protocol")},
                **{
                    name: header.binding[name]
                    for name in ("checkpoint_sha256", "protocol_sha256", *SETTINGS, "linear_layers")
                },
                KEY_TAG: binding_key(header.binding),
                "kind": "score",
            }
        )
        _log_dataset(run, header)
        run.log_metrics({"score/num_trials": header.binding["num_trials"]})
        record_score_file(run, output, header.about["model_tags"])
    return is_new


def _log_dataset(run: TrackedRun, header: JournalHeader) -> None:
    """Records the protocol that the shards were scored by, which need not be at hand where they are joined."""
    about, digest = header.about, header.binding["protocol_sha256"]
    if digest:
        name = f"{about['corpus']}-{about['track']}"
        run.log_dataset_of(about["protocol"], digest, about.get("counts", {}), name, "scoring")
