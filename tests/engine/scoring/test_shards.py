import pytest

from sls.engine.scoring.shards import Shard


@pytest.mark.parametrize("num_batches", [0, 1, 5, 16, 17])
@pytest.mark.parametrize("count", [1, 2, 3, 16])
def test_shards_hold_each_batch_once_and_in_order(num_batches: int, count: int) -> None:
    parts = [Shard(number, count).batches(num_batches) for number in range(1, count + 1)]
    assert [batch for part in parts for batch in part] == list(range(num_batches))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("number", "count"), [(0, 2), (3, 2), (1, 0)])
def test_a_shard_that_is_none_is_refused(number: int, count: int) -> None:
    with pytest.raises(ValueError, match="shard: found"):
        Shard(number, count)
