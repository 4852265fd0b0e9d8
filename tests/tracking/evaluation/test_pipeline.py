"""Scoring and evaluation that a stopped experiment takes up again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sls.config import ComputeConfig, DataConfig, ScoringConfig
from sls.data.corpora.corpus import open_corpus
from sls.data.loading.trial_lists import track_trials
from sls.models.checkpoints import CheckpointInfo, build_countermeasure
from sls.tracking.active_run import tracked_run
from sls.tracking.evaluation.pipeline import Pipeline
from sls.tracking.registry.checkpoints import log_checkpoint, resolve_model

STOP_AFTER = 8


@contextmanager
def stopping(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar that stops the process when so many trials are scored."""
    done = 0

    def advance(amount: int) -> None:
        nonlocal done
        done += amount
        if done >= STOP_AFTER:
            raise KeyboardInterrupt

    yield advance


@contextmanager
def silent(title: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda amount: None


@pytest.mark.slow
def test_what_was_stopped_goes_on_and_what_has_finished_is_found(
    store: Path, small_corpus: Path, tmp_path: Path
) -> None:
    model = build_countermeasure("random:tiny", 8_000, 0)
    with tracked_run("train") as run:
        log_checkpoint(run, model, CheckpointInfo(model.encoder, model.num_samples, epoch=0, recipe="v1"), {})
    source = resolve_model(run.client, f"runs:/{run.run_id}/epoch_0")
    corpus = open_corpus(DataConfig(data_root=str(small_corpus)))
    trials = track_trials(corpus, "LA")
    workplace = tmp_path / "work"

    def make(progress=silent, asked_by: str = "a" * 32) -> Pipeline:
        compute = ComputeConfig(device="cpu", num_workers=0, eval_batch_size=4)
        links = {"main_run_id": asked_by}
        return Pipeline(run.client, corpus, compute, links, progress, ScoringConfig(), workplace)

    with pytest.raises(KeyboardInterrupt):
        make(stopping).score(source, trials, "v1")
    assert list(workplace.rglob("LA.txt*"))
    score_run = make().score(source, trials, "v1")
    assert run.client.get_run(score_run).data.metrics["score/num_kept"] >= STOP_AFTER - 4
    assert not list(workplace.iterdir())
    assert make().score(source, trials, "v1") == score_run
    metrics = make().measure(score_run, "LA", "v1")
    assert 0 <= metrics["LA/eer_percent"] <= 100
    assert make().measure(score_run, "LA", "v1") == metrics
    kinds = [
        found.data.tags["kind"] for found in run.client.search_runs(["1"], "attributes.status = 'FINISHED'")
    ]
    assert sorted(kinds) == ["evaluate", "score", "train"]
    # Another experiment does its own work.
    assert make(asked_by="b" * 32).score(source, trials, "v1") != score_run
    # Nor are degraded scores those of the track.
    run.client.set_tag(score_run, "condition", "opus-12")
    assert make().score(source, trials, "v1") != score_run
