"""What a GPU computes is what a CPU computes, and its memory that runs out is one clear error."""

import gc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sls.config import AudioConfig, ComputeConfig, ScoringConfig
from sls.config_file import build_config
from sls.data.corpora.tracks import load_tracks
from sls.data.loading.dataset import TrialDataset
from sls.data.loading.scoring_batches import ScoringBatches
from sls.engine.compute.training_processes import open_accelerator
from sls.engine.scoring.forward_pass import resolve_batch_size, score_windows
from sls.engine.scoring.loop import ScoringJob, score
from sls.engine.training.loop import Training
from sls.models.checkpoints import build_countermeasure

pytestmark = pytest.mark.gpu
NUM_SAMPLES = 16_000


def train(corpus: Path, num_epochs: int, resume_from: Path | None = None, **values: object) -> Training:
    """Trains a tiny countermeasure, or prepares it to go on from a state."""
    tiny = {"audio_max_len": NUM_SAMPLES, "lr": 1e-4, "batch_size": 4, "num_workers": 0}
    config = build_config({**tiny, "num_epochs": num_epochs, "patience": 9, **values})
    trials = load_tracks()["train"].trials(corpus, is_labelled=True)[:16]
    data = TrialDataset(trials, config.audio, config.rawboost, config.training.seed)
    model = build_countermeasure("random:tiny", config.audio.audio_max_len, config.training.seed)
    job = Training(model, data, None, config, open_accelerator(config.compute))
    if resume_from is not None:
        job.load(resume_from)
    return job


def losses(job: Training) -> list[float]:
    return [epoch.metrics["train/loss"] for epoch in job.epochs()]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("tf32", 1e-2), ("bf16", 3e-2)])
def test_losses_are_those_of_a_cpu(small_corpus, precision: str, tolerance: float) -> None:
    expected = losses(train(small_corpus, 2, device="cpu"))
    found = losses(train(small_corpus, 2, device="cuda", precision=precision))
    assert found == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("accumulation_steps", [1, 3])
@pytest.mark.parametrize("clip_norm", [0, 0.1])
def test_a_captured_step_is_that_of_its_kernels(
    small_corpus, accumulation_steps: int, clip_norm: float
) -> None:
    values = {"device": "cuda", "accumulation_steps": accumulation_steps, "clip_norm": clip_norm, "lr": 1e-3}
    job = train(small_corpus, 3, **values)
    found = losses(job)
    assert job.gradient.captured.is_captured
    kernel_by_kernel = train(small_corpus, 3, cuda_graph=False, **values)
    assert kernel_by_kernel.gradient.captured is None
    assert found == pytest.approx(losses(kernel_by_kernel), rel=1e-5)


def test_recomputed_layers_are_captured(small_corpus) -> None:
    expected = losses(train(small_corpus, 2, device="cuda"))
    job = train(small_corpus, 2, device="cuda")
    config = replace(job.model.encoder, checkpoint_activations=True)
    job.model.encoder = job.model.xlsr.config = config
    assert losses(job) == pytest.approx(expected, rel=1e-5)
    assert job.gradient.captured.is_captured


def test_a_loss_that_is_not_finite_ends_a_captured_training(small_corpus) -> None:
    epochs = (job := train(small_corpus, 9, device="cuda")).epochs()
    assert [next(epochs).epoch, next(epochs).epoch] == [0, 1]
    assert job.gradient.captured.is_captured
    next(job.model.classifier.parameters()).data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match=r"\bnan in epoch 2, step 0\b"):
        next(epochs)


def test_a_resumed_training_has_the_losses_of_an_uninterrupted_one(small_corpus, tmp_path) -> None:
    expected = losses(train(small_corpus, 3, device="cuda"))
    job = train(small_corpus, 3, device="cuda")
    first = next(job.epochs())
    job.save(tmp_path, with_weights=True)
    found = [first.metrics["train/loss"], *losses(train(small_corpus, 3, tmp_path, device="cuda"))]
    assert found == pytest.approx(expected, rel=1e-4)


def scores_of(corpus: Path, compute: ComputeConfig, device: str) -> np.ndarray:
    model = build_countermeasure("random:tiny", NUM_SAMPLES, 1).to(device)
    trials = load_tracks()["LA"].trials(corpus)[:10]
    size = resolve_batch_size(model, NUM_SAMPLES, compute, torch.device(device))
    batches = ScoringBatches(TrialDataset(trials, AudioConfig(audio_max_len=NUM_SAMPLES)), size)
    job = ScoringJob(model, batches, compute, ScoringConfig(), torch.device(device), Path("scores.txt"), {})
    return np.concatenate([batch.scores for batch in score(job, range(len(batches)))])


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("tf32", 1e-2), ("bf16", 5e-2)])
def test_scores_are_those_of_a_cpu_whatever_fits_into_memory(
    small_corpus, precision: str, tolerance: float
) -> None:
    expected = scores_of(small_corpus, ComputeConfig(num_workers=0), "cpu")
    compute = ComputeConfig(num_workers=2, precision=precision, eval_batch_size=0)
    np.testing.assert_allclose(scores_of(small_corpus, compute, "cuda"), expected, rtol=0, atol=tolerance)


@pytest.fixture
def little_memory() -> Iterator[None]:
    gc.collect()  # of the trainings before
    torch.cuda.empty_cache()
    most = torch.cuda.memory_reserved() + 0.5 * 2**30
    torch.cuda.set_per_process_memory_fraction(most / torch.cuda.get_device_properties(0).total_memory)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.usefixtures("little_memory")
def test_a_batch_that_does_not_fit_is_refused_or_made_smaller(small_corpus) -> None:
    model = build_countermeasure("random:tiny", 64_600, 1).to("cuda")
    assert resolve_batch_size(model, 64_600, ComputeConfig(eval_batch_size=0), torch.device("cuda")) < 256
    with pytest.raises(ValueError, match="eval_batch_size: found 4096, .* cuda"):
        score_windows(model, torch.zeros(4096, 64_600), 4096, ComputeConfig(), torch.device("cuda"))
    with pytest.raises(MemoryError, match=r"batch_size, now 16\b"):
        losses(train(small_corpus, 1, device="cuda", batch_size=16, audio_max_len=640_000))
