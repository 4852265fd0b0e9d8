"""Fusion as a tracked run: its weights are an artifact, and every fused score file is a scoring run of its own."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from sls.data.corpora.corpus import Corpus
from sls.data.tables.protocols import ALL_SUBSETS
from sls.data.tables.score_files import format_score, lay_out
from sls.engine.evaluation.fusion import Fusion, apply_fusion, fit_fusion, fuse_halves
from sls.engine.evaluation.transfers import Placed
from sls.files import file_digest, write_whole
from sls.tracking.active_run import tracked_run
from sls.tracking.run import TrackedRun
from sls.tracking.scoring.score_file import OUTPUT_DIRECTORY, SCORES_DIRECTORY
from sls.tracking.tags import CONDITION_TAG, CORPUS_TAG, KEY_TAG, PARENT_TAG

FUSION_FILE = "fusion.json"


def track_fusion(
    run: TrackedRun, placed: Placed, corpus: Corpus, subset: str, output: Path | None, condition: str = ""
) -> tuple[list[Fusion], dict[str, Path]]:
    """Fits weights on the first track, writes the fused scores of the others, and records all of it.

    Of one track, each half of the speakers is fused by the weights of the other half. Weights are fitted on a subset,
    by default that of the first of several tracks, and all of one. Score files are called as their tracks.
    Fused scores are of the condition that some of the recordings are of.

    Returns:
        The weights, and the score file of each track by the id of its scoring run.

    Raises:
        ValueError: fewer than two systems, what would be fitted on what it is to score, or a file is there already.
    """
    first, *others = placed
    output = output or OUTPUT_DIRECTORY / f"fused-{run.run_id}"
    paths = {track: output / f"{track}.txt" for track in others or [first]}
    for path in paths.values():
        if path.exists():
            raise ValueError(f"output: found {path}, expected a directory without it")
    subset = subset or (corpus.track(first).default_subset if others else ALL_SUBSETS)
    fitted_on = {name: joined.select_subset(subset) for name, joined in placed[first].items()}
    fused: dict[str, dict[str, float]] = {}
    if others:
        fusions = [fit_fusion(fitted_on, first)]
        fused = {track: apply_fusion(fusions[0], fitted_on, placed[track], track) for track in others}
    else:
        fusions, fused[first] = fuse_halves(fitted_on, first)
    run.set_tags({"fitted_on": first, "systems": ", ".join(fitted_on), "tracks": ", ".join(paths)})
    run.suggest_name(f"fuse {', '.join(fitted_on)} on {first}")
    run.log_text(json.dumps([asdict(item) for item in fusions], indent=1) + "\n", FUSION_FILE)
    title = f"fusion of {', '.join(fitted_on)}"
    tags = {CORPUS_TAG: corpus.name, "model": title, **({CONDITION_TAG: condition} if condition else {})}
    return fusions, {
        _record(run, tags, track, llrs, paths[track]): paths[track] for track, llrs in fused.items()
    }


def _record(
    run: TrackedRun, tags: Mapping[str, str], track: str, llrs: Mapping[str, float], path: Path
) -> str:
    """Writes a fused score file, keeps it in a scoring run, by which evaluations find it, and returns its id."""
    lines = [f"{name} {format_score(llr)}\n" for name, llr in llrs.items()]
    with write_whole(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(lay_out(lines))
    with tracked_run("score", f"score {tags['model']} {track}", {PARENT_TAG: run.run_id}) as scoring:
        scoring.set_tags({"track": track, **tags, KEY_TAG: file_digest(path)})
        scoring.log_contents({path.name: path.read_bytes()}, SCORES_DIRECTORY)
    return scoring.run_id
