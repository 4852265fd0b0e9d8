"""Joining the shards of a score file, as a tracked run."""

from __future__ import annotations

from pathlib import Path

from sls.engine.scoring.settings import binding_key
from sls.engine.scoring.shards import find_shards, join_shards, shard_journals
from sls.files import hold_lock
from sls.tracking.run import TrackedRun
from sls.tracking.scoring.score_file import (
    check_output,
    describe_scores,
    read_header,
    record_score_file,
    remove_journals,
    write_score_file,
)

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
        describe_scores(run, header, binding_key(header.binding))
        protocol = {
            "protocol": header.about["protocol"],
            "protocol_sha256": header.binding["protocol_sha256"],
        }
        run.set_tags({"kind": "score", **protocol})
        run.log_metrics({"score/num_trials": header.binding["num_trials"]})
        record_score_file(run, output, header.about["model_tags"])
    return is_new
