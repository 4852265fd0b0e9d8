import math

import pytest

from sls.engine.training.stopping import EarlyStopping, choose_epochs

PUBLISHED_V1 = [0.070653, 0.004578, 0.000661, 0.001521]


def test_v1_stops_and_chooses_as_published() -> None:
    stopping = EarlyStopping(patience=1)
    improved = []
    for loss in [*PUBLISHED_V1, 0.0001]:
        improved.append(stopping.update(loss))
        if stopping.should_stop:
            break
    assert improved == [True, True, True, False]
    assert choose_epochs(dict(enumerate(PUBLISHED_V1))) == [2]


def test_patience_counts_epochs_since_the_last_improvement() -> None:
    stopping = EarlyStopping(patience=2)
    improved = [stopping.update(loss) for loss in [3.0, 4.0, 2.0, 2.0]]
    assert improved == [True, False, True, False]
    assert not stopping.should_stop
    stopping.update(5.0)
    assert stopping.should_stop


def test_another_goes_on_from_the_state_with_its_own_patience() -> None:
    stopping = EarlyStopping(patience=1)
    for loss in (2.0, 3.0):
        stopping.update(loss)
    resumed = EarlyStopping(patience=3)
    resumed.load_state_dict(stopping.state_dict())
    assert not resumed.should_stop
    assert [resumed.update(loss) for loss in (2.0, 2.5)] == [False, False]
    assert resumed.should_stop


def test_loss_that_is_not_a_number_is_no_improvement() -> None:
    stopping = EarlyStopping(patience=2)
    assert not stopping.update(math.nan)
    assert not stopping.should_stop
    assert not stopping.update(math.nan)
    assert stopping.should_stop


def test_earlier_of_equal_epochs_is_chosen() -> None:
    assert choose_epochs({2: 0.5, 1: 0.5, 0: 0.7}) == [1]


@pytest.mark.parametrize(("losses", "message"), [({}, "no epoch"), ({0: 1.0, 3: math.nan}, "epoch 3")])
def test_choice_without_numbers_is_refused(losses, message) -> None:
    with pytest.raises(ValueError, match=message):
        choose_epochs(losses)
