"""A training that is stopped and taken up again gives the losses of one that was not, to the last bit."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sls.config import Config
from sls.config_file import build_config
from sls.data.corpora.tracks import load_tracks
from sls.data.loading.dataset import TrialDataset
from sls.engine.compute.training_processes import open_accelerator
from sls.engine.training.loop import Training
from sls.engine.training.results import EpochResult, StepResult
from sls.engine.training.state import STATE_FILE
from sls.models.checkpoints import build_countermeasure

pytestmark = pytest.mark.slow
NUM_SAMPLES = 8_000


class Stopped(Exception):
    pass


def config(**values: object) -> Config:
    tiny = {"device": "cpu", "audio_max_len": NUM_SAMPLES, "num_workers": 0, "batch_size": 4, "lr": 1e-3}
    course = {"num_epochs": 2, "patience": 9, "schedule": "cosine", "warmup_steps": 3, "validation": "dev"}
    return build_config({**tiny, **course, **values})


def make_training(root: Path, settings: Config, seed: int | None = None) -> Training:
    seed = settings.training.seed if seed is None else seed
    model = build_countermeasure("random:tiny", NUM_SAMPLES, seed)
    # A dropout, so that the state of the generator matters.
    model.classifier.fc1.register_forward_hook(
        lambda module, inputs, output: torch.nn.functional.dropout(output, 0.3, module.training)
    )
    train, dev = (
        TrialDataset(load_tracks()[name].trials(root, is_labelled=True), settings.audio, settings.rawboost, 7)
        for name in ("train", "dev")
    )
    return Training(model, train, dev, settings, open_accelerator(settings.compute))


def losses(epochs: Iterator[EpochResult]) -> list[tuple[float, ...]]:
    names = ("train/loss", "val/loss", "train/accuracy", "train/lr")
    return [tuple(epoch.metrics[name] for name in names) for epoch in epochs]


SETTINGS = [{}, {"ema_decay": 0.8}, {"average_epochs": 2}, {"accumulation_steps": 2, "clip_norm": 0.5}]


@pytest.mark.parametrize("values", SETTINGS, ids=["plain", "ema", "average", "accumulated"])
def test_stopped_within_an_epoch(small_corpus: Path, tmp_path: Path, values: dict[str, object]) -> None:
    settings = config(**values, num_epochs=3 if "average_epochs" in values else 2)
    torch.manual_seed(0)
    whole = losses(make_training(small_corpus, settings).epochs())

    torch.manual_seed(0)
    first = make_training(small_corpus, settings)
    stop_at = first.num_steps + 1

    def stop(step: StepResult) -> None:
        if step.step >= stop_at:
            first.save(tmp_path, with_weights=True)
            raise Stopped

    epochs = first.epochs(stop)
    before = losses(iter([next(epochs)]))
    with pytest.raises(Stopped):
        next(epochs)

    torch.manual_seed(99)
    second = make_training(small_corpus, settings, seed=99)
    second.load(tmp_path)
    assert second.progress.batch > 0
    assert before + losses(second.epochs()) == whole


@pytest.mark.parametrize("values", [{}, {"ema_decay": 0.8}], ids=["plain", "ema"])
def test_stopped_between_epochs(small_corpus: Path, tmp_path: Path, values: dict[str, object]) -> None:
    settings = config(**values)
    torch.manual_seed(0)
    whole = losses(make_training(small_corpus, settings).epochs())

    torch.manual_seed(0)
    first = make_training(small_corpus, settings)
    before = losses(iter([next(first.epochs())]))
    first.save(tmp_path, with_weights=True)
    second = make_training(small_corpus, settings, seed=99)
    second.load(tmp_path)
    assert before + losses(second.epochs()) == whole


@pytest.mark.parametrize("values", SETTINGS, ids=["plain", "ema", "average", "accumulated"])
def test_stopped_within_a_validation(small_corpus: Path, tmp_path: Path, values: dict[str, object]) -> None:
    settings = config(**values, num_epochs=3, eval_batch_size=2)
    torch.manual_seed(0)
    whole = losses(make_training(small_corpus, settings).epochs())

    torch.manual_seed(0)
    first = make_training(small_corpus, settings)
    seen = 0

    def stop() -> None:
        nonlocal seen
        seen += first.progress.epoch == 1
        if seen == 2:
            first.save(tmp_path, with_weights=True)
            raise Stopped

    epochs = first.epochs(on_validation_batch=stop)
    before = losses(iter([next(epochs)]))
    with pytest.raises(Stopped):
        next(epochs)

    torch.manual_seed(99)
    second = make_training(small_corpus, settings, seed=99)
    second.load(tmp_path)
    steps: list[StepResult] = []
    assert before + losses(second.epochs(steps.append)) == whole
    assert steps[0].epoch == 2  # no step of the validated epoch is taken twice


def test_state_without_weights_goes_with_the_model_that_has_them(small_corpus: Path, tmp_path: Path) -> None:
    settings = config()
    torch.manual_seed(0)
    whole = losses(make_training(small_corpus, settings).epochs())
    torch.manual_seed(0)
    first = make_training(small_corpus, settings)
    before = losses(iter([next(first.epochs())]))
    first.save(tmp_path, with_weights=False)
    second = make_training(small_corpus, settings, seed=99)
    second.model.load_state_dict(first.model.state_dict())
    second.load(tmp_path)
    assert before + losses(second.epochs()) == whole


def test_early_stopping_goes_on_counting(small_corpus: Path, tmp_path: Path) -> None:
    settings = config(num_epochs=9, patience=2)
    first = make_training(small_corpus, settings)
    first.stopping.update(-1.0)
    next(first.epochs())
    first.save(tmp_path, with_weights=True)
    second = make_training(small_corpus, settings)
    second.load(tmp_path)
    assert [epoch.is_last for epoch in second.epochs()] == [True]


def test_state_that_was_cut_off_is_refused(small_corpus: Path, tmp_path: Path) -> None:
    training = make_training(small_corpus, config())
    with pytest.raises(FileNotFoundError, match=STATE_FILE):
        training.load(tmp_path)
    training.save(tmp_path, with_weights=True)
    path = tmp_path / STATE_FILE
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=STATE_FILE):
        training.load(tmp_path)
    path.write_text("epoch 3")
    with pytest.raises(ValueError, match=STATE_FILE):
        training.load(tmp_path)


def test_state_of_another_number_of_processes_is_refused(small_corpus: Path, tmp_path: Path) -> None:
    training = make_training(small_corpus, config())
    training.save(tmp_path, with_weights=True)
    state = torch.load(tmp_path / STATE_FILE, weights_only=True)
    state["generators"] *= 2
    torch.save(state, tmp_path / STATE_FILE)
    with pytest.raises(ValueError, match="2 processes, .* 1"):
        training.load(tmp_path)


@pytest.mark.parametrize("name", ["training", "validation"])
def test_state_of_other_trials_is_refused(small_corpus: Path, tmp_path: Path, name: str) -> None:
    training = make_training(small_corpus, config())
    training.save(tmp_path, with_weights=True)
    dataset = training.train if name == "training" else training.validation
    assert dataset is not None
    dataset.labels[0] = 1 - dataset.labels[0]
    with pytest.raises(ValueError, match=f"the {name} trials"):
        training.load(tmp_path)
