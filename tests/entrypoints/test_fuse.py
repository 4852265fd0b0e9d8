"""The fuse door: two independent systems, of which the best that can be made of both is known."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from entrypoints.compare import compare
from entrypoints.evaluate import evaluate
from entrypoints.fuse import fuse
from sls.data.corpora.tracks import load_tracks
from sls.data.tables.score_files import join_scores, read_scores
from sls.metrics.eer import compute_eer
from sls.tracking.store import connect
from tests.entrypoints.test_evaluate_and_compare import newest_run, write_scores

TRACKS, SEPARATIONS = ("dev", "LA"), {"one": 2.0, "two": 1.0}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Lists of many trials, without recordings."""
    lines = {
        "ASVspoof2019.LA.cm.dev.trl.txt": [
            f"S{number % 20} D_{number} - {'A01 spoof' if number % 3 else '- bonafide'}\n"
            for number in range(9_000)
        ],
        "ASVspoof2019.LA.cm.eval.trl.txt": [
            f"S{number % 20} E_{number} - {'A07 spoof' if number % 3 else '- bonafide'}\n"
            for number in range(30_000)
        ],
    }
    for name, found in lines.items():
        (tmp_path / name).write_text("".join(found))
    # The published numbers of trials are not those of these lists.
    (tmp_path / "mine.tracks.yaml").write_text(
        "tracks:\n"
        "  dev: {protocol: {files: ASVspoof2019.LA.cm.dev.trl.txt, formats: asvspoof2019}, audio: {}}\n"
        "  LA: {protocol: {files: ASVspoof2019.LA.cm.eval.trl.txt, formats: asvspoof2019}, audio: {}}\n"
    )
    return tmp_path


@pytest.fixture
def files(corpus: Path) -> dict[str, Path]:
    tracks, found = load_tracks(corpus / "mine.tracks.yaml"), {}
    for seed, track in enumerate(TRACKS):
        key = tracks[track].key(corpus)
        rng = np.random.default_rng(seed)
        for system, separation in SEPARATIONS.items():
            found[f"{track}/{system}"] = corpus / f"{track}.{system}.txt"
            scores = rng.normal(size=len(key)) + separation * key.labels
            write_scores(found[f"{track}/{system}"], key.names, scores.astype(np.float32))
    return found


def invoke(door, corpus: Path, **options: str):
    options |= {"data_root": str(corpus), "tracks": str(corpus / "mine.tracks.yaml")}
    return CliRunner().invoke(
        door, [word for name, value in options.items() for word in (f"--{name}", value)]
    )


def named(files: dict[str, Path], *tracks: str) -> str:
    return ",".join(f"{name}={path}" for name, path in files.items() if name.split("/")[0] in tracks)


@pytest.mark.slow
def test_fused_scores_reach_the_optimum_and_are_evaluated_and_compared_like_any(store, corpus, files) -> None:
    scores = named(files, *TRACKS)
    done = invoke(fuse, corpus, track="dev,LA", scores=scores, output=str(corpus / "fused"))
    assert done.exit_code == 0, done.output
    weights = json.loads(mlflow.artifacts.load_text(f"runs:/{newest_run('fuse').info.run_id}/fusion.json"))
    assert weights[0]["systems"] == list(SEPARATIONS)
    assert weights[0]["llr"]["weights"] == pytest.approx(list(SEPARATIONS.values()), rel=0.1)
    assert (weights[0]["fitted_on"], weights[0]["num_bonafide"]) == ("dev", 3_000)
    assert [path.name for path in (corpus / "fused").iterdir()] == ["LA.txt"]
    key = load_tracks(corpus / "mine.tracks.yaml")["LA"].key(corpus)
    fused = join_scores(read_scores(corpus / "fused" / "LA.txt"), key)
    optimum = stats.norm.cdf(-np.hypot(*SEPARATIONS.values()) / 2)
    eer = compute_eer(fused.scores[fused.is_bonafide], fused.scores[~fused.is_bonafide]).eer
    assert eer == pytest.approx(optimum, abs=0.008)
    scoring = newest_run("score").info.run_id
    assert scoring in done.output
    assert invoke(evaluate, corpus, track="LA", scores=scoring).exit_code == 0
    assert newest_run("evaluate").data.metrics["LA/eer_percent"] == pytest.approx(100 * eer)
    both = f"fused={scoring},one={files['LA/one']}"
    compared = invoke(compare, corpus, track="LA", scores=both)
    assert "fused is better than one on LA" in compared.output


@pytest.mark.slow
def test_fused_scores_of_degraded_recordings_are_no_clean_ones(store, corpus, files) -> None:
    client = connect()
    run_id = client.create_run("0", tags={"kind": "score", "track": "LA", "condition": "opus-16"}).info.run_id
    client.log_artifact(run_id, str(files["LA/one"]), "scores")
    client.set_terminated(run_id)
    scores = f"{named(files, 'dev')},LA/one={run_id},LA/two={files['LA/two']}"
    done = invoke(fuse, corpus, track="dev,LA", scores=scores, output=str(corpus / "fused"))
    assert done.exit_code == 0, done.output
    assert newest_run("score").data.tags["condition"] == "opus-16"
    refused = invoke(evaluate, corpus, track="LA")
    assert refused.exit_code == 2
    assert "no finished scoring run of track LA" in refused.stderr


def test_one_track_is_fused_by_halves_of_its_speakers(store, corpus, files) -> None:
    done = invoke(fuse, corpus, track="dev", scores=named(files, "dev"), output=str(corpus / "fused"))
    assert done.exit_code == 0, done.output
    first, second = json.loads(
        mlflow.artifacts.load_text(f"runs:/{newest_run('fuse').info.run_id}/fusion.json")
    )
    assert first["num_bonafide"] + second["num_bonafide"] == 3_000
    assert first["llr"]["weights"] != second["llr"]["weights"]
    key = load_tracks(corpus / "mine.tracks.yaml")["dev"].key(corpus)
    fused = join_scores(read_scores(corpus / "fused" / "dev.txt"), key)
    # A trial of the second half has the score that the weights of the first half give it.
    scores = np.stack([join_scores(read_scores(files[f"dev/{name}"]), key).scores for name in SEPARATIONS])
    by_first, by_second = (
        np.asarray(half["llr"]["weights"]) @ scores + half["llr"]["offset"] for half in (first, second)
    )
    is_first = np.isclose(fused.scores, by_second, atol=1e-5)
    assert np.count_nonzero(is_first) == first["num_bonafide"] + first["num_spoof"]
    assert fused.scores[~is_first] == pytest.approx(by_first[~is_first], abs=1e-5)


def test_what_would_be_fitted_on_what_it_scores_is_refused(store, corpus, files) -> None:
    # A track of another name that holds the same trials.
    copied = corpus / "copied.tracks.yaml"
    copied.write_text((corpus / "mine.tracks.yaml").read_text().replace("LA.cm.eval", "LA.cm.dev"))
    scores = named(files, "dev") + "," + ",".join(f"LA/{name}={files[f'dev/{name}']}" for name in SEPARATIONS)
    options = {"data_root": str(corpus), "tracks": str(copied), "track": "dev,LA", "scores": scores}
    done = CliRunner().invoke(
        fuse, [word for name, value in options.items() for word in (f"--{name}", value)]
    )
    assert done.exit_code == 2
    assert "dev and LA have 9,000 trials in common, the first D_0" in done.stderr
    assert not connect().search_runs(["1"], "tags.kind = 'score'")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"track": "dev,dev"}, "track: found dev,dev"),
        ({"track": "dev", "scores": "one={dev/one}"}, "systems: found 1 on dev half 1"),
        (
            {"track": "dev", "scores": "one={dev/one},two={dev/two}", "output": "{here}"},
            "found {here}/dev.txt",
        ),
    ],
)
def test_what_is_typed_wrongly_is_named(store, corpus, files, options, told) -> None:
    (corpus / "dev.txt").write_text("here\n")
    named_options = {name: value.format(here=corpus, **files) for name, value in options.items()}
    done = invoke(fuse, corpus, **named_options)
    assert done.exit_code == 2
    assert told.format(here=corpus) in done.stderr
    assert (corpus / "dev.txt").read_text() == "here\n"
