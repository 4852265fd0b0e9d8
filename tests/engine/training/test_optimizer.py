from itertools import pairwise

import pytest

from sls.config import OptimizerConfig
from sls.engine.training.optimizer import learning_rate_factor, make_optimizer, make_schedule
from sls.models.checkpoints import build_countermeasure


def test_papers_learning_rate_never_changes() -> None:
    assert {learning_rate_factor(OptimizerConfig(), step, 100) for step in range(200)} == {1.0}


@pytest.mark.parametrize(("schedule", "at_a_quarter"), [("linear", 0.75), ("cosine", (2 + 2**0.5) / 4)])
def test_schedule_rises_over_the_warm_up_and_falls_to_nothing(schedule, at_a_quarter) -> None:
    config = OptimizerConfig(schedule=schedule, warmup_steps=10)
    factors = [learning_rate_factor(config, step, 110) for step in range(111)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == factors[10] == 1
    assert factors[35] == pytest.approx(at_a_quarter)
    assert factors[60] == pytest.approx(0.5)
    assert 0 < factors[109] < 0.02  # the last step still learns
    assert factors[110] == pytest.approx(0, abs=1e-12)
    assert all(later <= earlier for earlier, later in pairwise(factors[10:]))


def test_training_shorter_than_its_warm_up_still_has_a_rate() -> None:
    config = OptimizerConfig(schedule="cosine", warmup_steps=100)
    assert all(0 < learning_rate_factor(config, step, 10) <= 1 for step in range(10))


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("num_steps", [9, 10, 11, 12])
def test_the_rate_stays_between_nothing_and_the_whole_at_the_edge_of_the_warm_up_and_past_the_end(
    schedule, num_steps
) -> None:
    config = OptimizerConfig(schedule=schedule, warmup_steps=10)
    factors = [learning_rate_factor(config, step, num_steps) for step in range(30)]
    assert factors[:11] == pytest.approx([*(step / 10 for step in range(1, 11)), 1])
    assert all(0 <= factor <= 1 for factor in factors)
    if schedule != "constant":
        assert factors[max(num_steps, 11) :] == pytest.approx([0] * (30 - max(num_steps, 11)), abs=1e-12)


def test_classifier_has_the_rate_of_the_encoder_unless_it_is_given_its_own() -> None:
    optimizer = make_optimizer(
        build_countermeasure("random:tiny", 64_600, seed=0), OptimizerConfig(lr=1e-3, weight_decay=0.25)
    )
    groups = [(group["lr"], group["weight_decay"], group["fused"]) for group in optimizer.param_groups]
    assert groups == [(1e-3, 0.25, True)] * 2  # one pass over memory on a CPU


def test_classifier_can_have_a_rate_of_its_own_and_every_weight_has_one() -> None:
    model = build_countermeasure("random:tiny", 64_600, seed=0)
    optimizer = make_optimizer(model, OptimizerConfig(lr=1e-3, head_lr=1e-5))
    rates = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    of_head = {id(weight) for weight in model.classifier.parameters()}
    assert {id(weight) for weight in model.parameters() if weight.requires_grad} == set(rates)
    assert {rate for weight, rate in rates.items() if weight in of_head} == {1e-5}
    assert {rate for weight, rate in rates.items() if weight not in of_head} == {1e-3}


def test_schedule_multiplies_both_rates() -> None:
    model = build_countermeasure("random:tiny", 64_600, seed=0)
    config = OptimizerConfig(lr=1e-3, head_lr=1e-5, schedule="linear")
    optimizer = make_optimizer(model, config)
    schedule = make_schedule(optimizer, config, 4)
    for _ in range(2):
        optimizer.step()
        schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([5e-4, 5e-6])
