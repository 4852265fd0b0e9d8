import numpy as np
import pytest
import torch

from sls.config import TrainingConfig
from sls.engine.training.averaging import make_average, mean_weights
from sls.models.checkpoints import build_countermeasure
from sls.models.countermeasure import Countermeasure

NUM_SAMPLES = 8_000


def set_bias(model: Countermeasure, value: float) -> None:
    torch.nn.init.constant_(model.classifier.fc3.bias, value)


def bias(model: Countermeasure) -> float:
    return model.classifier.fc3.bias[0].item()


@pytest.fixture
def model() -> Countermeasure:
    return build_countermeasure("random:tiny", NUM_SAMPLES, 0)


def test_no_mean_is_the_model_itself(model: Countermeasure) -> None:
    assert make_average(model, TrainingConfig()).result is model


def test_moving_average_is_the_recursive_mean_of_steps(model: Countermeasure) -> None:
    average = make_average(model, TrainingConfig(ema_decay=0.9))
    expected = None
    for value in (1.0, 2.0, 4.0):
        set_bias(model, value)
        average.after_step()
        expected = value if expected is None else 0.9 * expected + 0.1 * value
    assert bias(average.result) == pytest.approx(expected)
    assert bias(model) == 4.0


def test_epoch_average_is_the_mean_of_the_last_ones_with_their_batch_statistics(
    model: Countermeasure,
) -> None:
    average = make_average(model, TrainingConfig(average_epochs=2))
    for value in (1.0, 2.0, 4.0):
        set_bias(model, value)
        model.classifier.first_bn.running_mean.fill_(10 * value)
        model.classifier.first_bn.num_batches_tracked.fill_(int(value))
        average.after_epoch()
    assert bias(average.result) == 3.0
    assert average.result.classifier.first_bn.running_mean.item() == 30.0
    assert average.result.classifier.first_bn.num_batches_tracked.item() == 4  # a count has no mean
    assert bias(model) == 4.0


@pytest.mark.parametrize("settings", [{"ema_decay": 0.9}, {"average_epochs": 2}], ids=str)
def test_a_mean_goes_on_from_its_state(model: Countermeasure, settings) -> None:
    config = TrainingConfig(**settings)
    whole, first = make_average(model, config), make_average(model, config)
    for value in (1.0, 2.0, 4.0):
        set_bias(model, value)
        for average in (whole, first):
            average.after_step()
            average.after_epoch()
    resumed = make_average(build_countermeasure("random:tiny", NUM_SAMPLES, 1), config)
    resumed.load_state_dict(first.state_dict())
    assert bias(resumed.result) == bias(whole.result) != bias(model)
    set_bias(model, 8.0)
    resumed = make_average(model, config)
    resumed.load_state_dict(first.state_dict())
    for average in (whole, resumed):
        average.after_step()
        average.after_epoch()
    assert bias(resumed.result) == bias(whole.result) != bias(model)


def test_before_the_first_epoch_there_is_nothing_to_go_on_from(model: Countermeasure) -> None:
    average = make_average(model, TrainingConfig(average_epochs=2))
    average.load_state_dict(average.state_dict())
    assert bias(average.result) == bias(model)


def test_two_means_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match=r"average_epochs: found 3 .*ema_decay"):
        TrainingConfig(ema_decay=0.9, average_epochs=3)


def test_a_mean_of_weights_is_that_of_numpy_in_double_precision_and_whole_numbers_are_those_of_the_last() -> (
    None
):
    models = [build_countermeasure("random:tiny", NUM_SAMPLES, seed) for seed in range(3)]
    for count, model in enumerate(models):
        model.classifier.first_bn.running_mean.fill_(0.1 * count)
        model.classifier.first_bn.num_batches_tracked.fill_(count)
    mean = mean_weights(model.state_dict() for model in models)
    assert list(mean) == list(models[0].state_dict())
    for name, tensor in mean.items():
        stacked = np.stack([model.state_dict()[name].numpy() for model in models])
        assert tensor.dtype == models[0].state_dict()[name].dtype
        if name.endswith("num_batches_tracked"):
            assert tensor == 2
        else:
            expected = stacked.astype(np.float64).mean(axis=0).astype(np.float32)
            np.testing.assert_array_equal(tensor.numpy(), expected, err_msg=name)


def test_the_mean_of_no_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="weights: found none"):
        mean_weights([])
