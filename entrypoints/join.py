"""Joins the shards of a score file: `mlflow run . -e join -P output=FILE`."""

from entrypoints.door import door_command, say
from entrypoints.options import output_path, text_option
from sls.tracking.run import TrackedRun
from sls.tracking.scoring.score_file import track_join


@door_command("join")
@text_option("output", "the score file that was given to each shard, or that each of them named")
def join(run: TrackedRun, output: str) -> None:
    """Join the shards of a score file, byte for byte as one process writes it."""
    path = output_path(output)
    if path is None:
        raise ValueError("output: found nothing, expected the score file of the shards")
    is_new = track_join(run, path)
    say(f"{'Joined' if is_new else 'Already joined'}: {output}")


if __name__ == "__main__":
    join()
