import math

import pytest

from sls.engine.stopping import EarlyStopping, choose_epoch

PUBLISHED_V1 = [0.070653, 0.004578, 0.000661, 0.001521]


def test_v1_stops_and_chooses_as_published() -> None:
    stopping = EarlyStopping(patience=1)
    epochs = []
    for epoch, loss in enumerate([*PUBLISHED_V1, 0.0001]):
        stopping.update(epoch, loss)
        epochs.append(epoch)
        if stopping.should_stop:
            break
    assert epochs == [0, 1, 2, 3]
    assert stopping.best_epoch == 2
    assert choose_epoch(dict(enumerate(PUBLISHED_V1))) == 2


def test_patience_counts_epochs_since_the_last_improvement() -> None:
    stopping = EarlyStopping(patience=2)
    improved = [stopping.update(epoch, loss) for epoch, loss in enumerate([3.0, 4.0, 2.0, 2.0])]
    assert improved == [True, False, True, False]
    assert not stopping.should_stop
    stopping.update(4, 5.0)
    assert stopping.should_stop
    assert stopping.best_epoch == 2


def test_loss_that_is_not_a_number_is_no_improvement() -> None:
    stopping = EarlyStopping(patience=1)
    assert not stopping.update(0, math.nan)
    assert stopping.should_stop


def test_earlier_of_equal_epochs_is_chosen() -> None:
    assert choose_epoch({2: 0.5, 1: 0.5, 0: 0.7}) == 1


@pytest.mark.parametrize(("losses", "message"), [({}, "no epoch"), ({0: 1.0, 3: math.nan}, "epoch 3")])
def test_choice_without_numbers_is_refused(losses, message) -> None:
    with pytest.raises(ValueError, match=message):
        choose_epoch(losses)
