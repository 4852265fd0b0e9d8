import math
from pathlib import Path

import pytest
import torch

from sls.config import ComputeConfig, Config
from sls.config_file import build_config
from sls.data.corpora.tracks import load_tracks
from sls.data.loading.dataset import TrialDataset
from sls.engine.compute.training_processes import open_accelerator
from sls.engine.training.loop import Training
from sls.engine.training.results import EpochResult, StepResult
from sls.engine.training.validation import validate
from sls.models.checkpoints import build_countermeasure

CPU = ComputeConfig(device="cpu")
NUM_SAMPLES = 16_000


def config(**values: object) -> Config:
    tiny = {
        "device": "cpu",
        "audio_max_len": NUM_SAMPLES,
        "lr": 1e-4,
        "num_epochs": 2,
        "batch_size": 4,
        "num_workers": 0,
    }
    return build_config({**tiny, **values})


def dataset(root: Path, settings: Config, name: str = "train") -> TrialDataset:
    trials = load_tracks()[name].trials(root, is_labelled=True)
    return TrialDataset(trials, settings.audio, settings.rawboost, settings.training.seed)


def train(root: Path, settings: Config, validation: str | None = None) -> list[EpochResult]:
    return list(training(root, settings, validation).epochs())


def training(root: Path, settings: Config, validation: str | None = None) -> Training:
    model = build_countermeasure("random:tiny", NUM_SAMPLES, settings.training.seed)
    held_out = dataset(root, settings, validation) if validation else None
    accelerator = open_accelerator(settings.compute)
    return Training(model, dataset(root, settings), held_out, settings, accelerator)


@pytest.mark.slow
def test_number_of_workers_changes_no_loss(small_corpus) -> None:
    alone = train(small_corpus, config(num_epochs=1))
    together = train(small_corpus, config(num_epochs=1, num_workers=2))
    assert alone[0].metrics["train/loss"] == together[0].metrics["train/loss"]


def test_seed_decides_the_losses(small_corpus) -> None:
    losses = [
        train(small_corpus, config(num_epochs=1, seed=seed))[0].metrics["train/loss"] for seed in (1, 1, 2)
    ]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.slow
def test_validation_changes_no_training_loss(small_corpus) -> None:
    without = train(small_corpus, config())
    validated = train(small_corpus, config(validation="dev"), "dev")
    assert [epoch.metrics["train/loss"] for epoch in without] == [
        epoch.metrics["train/loss"] for epoch in validated
    ]
    assert "val/loss" not in without[0].metrics
    assert {"val/loss", "val/accuracy", "val/eer_percent"} <= set(validated[0].metrics)


def test_epochs_count_from_0_and_the_last_is_marked(small_corpus) -> None:
    epochs = train(small_corpus, config(patience=5))
    assert [(epoch.epoch, epoch.is_last) for epoch in epochs] == [(0, False), (1, True)]


def test_patience_ends_training(small_corpus) -> None:
    job = training(small_corpus, config(num_epochs=20, patience=2))
    epochs = []
    for epoch in job.epochs():
        epochs.append((epoch.epoch, epoch.is_best, epoch.is_last))
        job.stopping.best_loss = 0.0  # below which no cross entropy comes
    assert epochs == [(0, True, False), (1, False, False), (2, False, True)]


def test_validation_loss_does_not_depend_on_the_batch_of_evaluation(small_corpus) -> None:
    model = build_countermeasure("random:tiny", NUM_SAMPLES, 0)
    losses = []
    for eval_batch_size in (3, 16):
        settings = config(eval_batch_size=eval_batch_size)
        losses.append(
            validate(model, dataset(small_corpus, settings, "dev"), settings, 0, open_accelerator(CPU))[
                "val/loss"
            ]
        )
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_constant_scores_have_no_eer_and_do_not_end_training(small_corpus, caplog) -> None:
    model = build_countermeasure("random:tiny", NUM_SAMPLES, 0)
    torch.nn.init.zeros_(model.classifier.fc3.weight)
    settings = config()
    metrics = validate(model, dataset(small_corpus, settings, "dev"), settings, 7, open_accelerator(CPU))
    assert "val/eer_percent" not in metrics
    assert metrics["val/loss"] == pytest.approx(math.log(2), abs=0.2)
    assert "epoch 7" in caplog.text


def test_validation_trials_without_a_score_are_named(small_corpus, monkeypatch) -> None:
    """As where a process returns fewer than its share."""
    model = build_countermeasure("random:tiny", NUM_SAMPLES, 0)
    settings = config(eval_batch_size=4)
    held_out = dataset(small_corpus, settings, "dev")
    monkeypatch.setattr("sls.engine.training.validation.gather_object", lambda scored: scored[1:])
    expected = f"epoch 3: .* 4 of {len(held_out)} .*{held_out.name(0)}"
    with pytest.raises(FloatingPointError, match=expected):
        validate(model, held_out, settings, 3, open_accelerator(CPU))


def test_loss_that_is_not_finite_names_epoch_step_and_trials(small_corpus) -> None:
    settings = config()
    model = build_countermeasure("random:tiny", NUM_SAMPLES, 0)
    torch.nn.init.constant_(model.classifier.fc3.bias, math.nan)
    with pytest.raises(FloatingPointError, match=r"epoch 0, step 0.* \w+_T_\w+"):
        next(Training(model, dataset(small_corpus, settings), None, settings, open_accelerator(CPU)).epochs())


def test_batch_larger_than_the_corpus_is_refused(small_corpus) -> None:
    settings = config(batch_size=10_000)
    with pytest.raises(ValueError, match="batch_size: found 10000"):
        train(small_corpus, settings)


def test_accumulated_small_batches_take_as_many_steps_as_large_ones(small_corpus) -> None:
    settings = config(num_epochs=1, batch_size=2, accumulation_steps=3)
    job = training(small_corpus, settings)
    steps = []
    next(job.epochs(steps.append))
    assert len(steps) == math.ceil(job.num_batches / 3)
    assert job.schedule.last_epoch == len(steps)


def test_accumulation_averages_the_gradients_of_its_batches(small_corpus) -> None:
    """One step over two batches moves the weights along the mean of the two gradients."""
    single, double = (gradients_of_steps(small_corpus, accumulation_steps=every) for every in (1, 2))
    assert len(single) >= 4
    # The batch statistics of a batch do not depend on earlier batches, so the gradients add up.
    for first, second, both in zip(single[::2], single[1::2], double, strict=False):
        torch.testing.assert_close(both, (first + second) / 2)


def gradients_of_steps(root: Path, **values: object) -> list[torch.Tensor]:
    """The gradient of one part at each step of an epoch whose steps are too small to move any weight."""
    job = training(root, config(num_epochs=1, lr=1e-30, weight_decay=0, **values))
    weight = job.model.classifier.fc3.weight
    gradients = []
    job.optimizer.optimizer.register_step_pre_hook(lambda *_: gradients.append(weight.grad.clone()))
    next(job.epochs())
    return gradients


def test_steps_are_those_of_the_optimizer(small_corpus) -> None:
    """What happens every so many steps would otherwise wait for a batch that divides both numbers."""
    job = training(small_corpus, config(num_epochs=2, batch_size=4, accumulation_steps=3))
    steps: list[StepResult] = []
    list(job.epochs(steps.append))
    num_steps = math.ceil(job.num_batches / 3)
    assert job.num_batches % 3, "the last step of an epoch is of fewer batches"
    assert [step.step for step in steps] == list(range(2 * num_steps))
    assert {step.num_steps for step in steps} == {num_steps}


def test_clipping_bounds_the_gradient(small_corpus) -> None:
    job = training(small_corpus, config(num_epochs=1, clip_norm=1e-3))
    norms = []

    def measure(*_: object) -> None:
        gradients = [weight.grad for weight in job.model.parameters() if weight.grad is not None]
        norms.append(torch.linalg.vector_norm(torch.cat([grad.flatten() for grad in gradients])).item())

    job.optimizer.optimizer.register_step_pre_hook(measure)
    next(job.epochs())
    assert norms
    assert max(norms) <= 1e-3 * 1.001


@pytest.mark.parametrize(("num_layers", "trained"), [(0, {0, 1, 2, 3}), (2, {2, 3}), (-1, set())])
def test_frozen_layers_stay_as_they_are(small_corpus, num_layers: int, trained: set[int]) -> None:
    job = training(small_corpus, config(num_epochs=1, freeze_layers=num_layers))
    before = {name: weight.clone() for name, weight in job.model.state_dict().items()}
    next(job.epochs())
    changed = {name for name, weight in job.model.state_dict().items() if not weight.equal(before[name])}
    layers = len(job.model.xlsr.transformer_layers)
    found = {i for i in range(layers) if any(f"transformer.layers.{i}." in name for name in changed)}
    assert found == {i for i in trained if i < layers} if num_layers != 0 else len(found) == layers
    assert any("classifier" in name for name in changed)
    assert any("feature_extractor" in name for name in changed) == (num_layers == 0)


def test_more_frozen_layers_than_there_are_is_refused(small_corpus) -> None:
    with pytest.raises(ValueError, match="freeze_layers: found 99"):
        training(small_corpus, config(freeze_layers=99))


def test_full_memory_says_what_to_lower(small_corpus) -> None:
    job = training(small_corpus, config())

    def fill(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    job.model.register_forward_pre_hook(fill)
    with pytest.raises(MemoryError, match="epoch 0, step 0: .*batch_size, now 4"):
        next(job.epochs())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_changes_the_arithmetic_alone(small_corpus, precision: str) -> None:
    epoch = train(small_corpus, config(num_epochs=1, precision=precision))[0]
    assert epoch.metrics["train/loss"] == pytest.approx(
        train(small_corpus, config(num_epochs=1))[0].metrics["train/loss"], rel=0.1
    )
    assert {weight.dtype for weight in epoch.model.parameters()} == {torch.float32}


def test_gradient_that_is_not_finite_is_found_on_the_last_step_too(small_corpus, monkeypatch) -> None:
    job = training(small_corpus, config(num_epochs=1))
    backward = job.accelerator.backward

    def break_the_last(loss):
        backward(loss)
        if job.progress.batch == job.num_batches - 1:
            job.model.classifier.fc3.bias.grad.fill_(math.inf)

    monkeypatch.setattr(job.accelerator, "backward", break_the_last)
    with pytest.raises(FloatingPointError, match="inf .*epoch 0, step"):
        next(job.epochs())


class Stopped(Exception):
    pass


def test_peak_memory_is_that_of_the_processes_that_took_the_steps(
    small_corpus, tmp_path, monkeypatch
) -> None:
    """An epoch stopped within its validation takes no step more, and one stopped before takes the greater peak."""

    def stop(*_: object) -> None:
        job.save(tmp_path, with_weights=True)
        raise Stopped

    settings = config(num_epochs=1, validation="dev")
    reported = []
    for at_step in (True, False):
        monkeypatch.setattr("sls.engine.training.loop.peak_memory_gib", lambda device: 3.0)
        job = training(small_corpus, settings, "dev")
        with pytest.raises(Stopped):
            next(job.epochs(stop) if at_step else job.epochs(on_validation_batch=stop))
        monkeypatch.setattr("sls.engine.training.loop.peak_memory_gib", lambda device: 5.0)
        job = training(small_corpus, settings, "dev")
        job.load(tmp_path)
        reported.append(next(job.epochs()).metrics["train/peak_memory_gib"])
    assert reported == [5.0, 3.0]
