"""The processes of one launch by torchrun or accelerate, each of which scores a shard."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from sls.data.scoring_batches import Shard

LONGEST_WAIT = timedelta(days=7)
"""For the slowest process; a launcher ends the others at once where one dies."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of its launch; one alone by default."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """Among those of its machine, by which it takes its GPU."""

    @property
    def shard(self) -> Shard:
        """What this process scores."""
        return Shard(self.rank + 1, self.world_size)

    def own_device(self, device: torch.device) -> torch.device:
        """Returns the GPU of this process, where the processes of a launch would all take the first one."""
        if self.world_size == 1 or str(device) != "cuda":
            return device
        return torch.device("cuda", self.local_rank)

    def share(self, value: Any) -> Any:
        """Returns the value that the first process passes, in every process."""
        if self.world_size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def wait_for_all(self, failure: str = "") -> None:
        """Waits until every process has come here.

        Args:
            failure: why this one has failed.

        Raises:
            ValueError: in the first process, where another has failed, with its reason.
        """
        if self.world_size == 1:
            return
        failures: list[Any] = [None] * self.world_size
        distributed.all_gather_object(failures, failure)
        first = next((f"rank {rank}: {text}" for rank, text in enumerate(failures) if text), "")
        if first and self.rank == 0:
            raise ValueError(first)

    @contextmanager
    def tell_failure(self) -> Iterator[None]:
        """Ends in `wait_for_all`, with the reason where the `with` block fails."""
        try:
            yield
        except (ValueError, OSError) as error:
            self.wait_for_all(str(error))
            raise
        self.wait_for_all()


@contextmanager
def join_ranks(environment: Mapping[str, str] = os.environ) -> Iterator[Ranks]:
    """Finds the processes of this launch by the variables that launchers set, and connects them."""
    world_size = int(environment.get("WORLD_SIZE") or 1)
    if world_size == 1:
        yield Ranks()
        return
    distributed.init_process_group("gloo", timeout=LONGEST_WAIT)
    try:
        yield Ranks(int(environment["RANK"]), world_size, int(environment.get("LOCAL_RANK") or 0))
    finally:
        distributed.destroy_process_group()
