"""The processes of one launch by torchrun or accelerate: how they agree, share work and end together."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

import torch
from torch import distributed

from sls.engine.compute.launch import Launch

LONGEST_WAIT = timedelta(days=7)
"""For the slowest process; a launcher ends the others at once where one dies."""


class ProcessGone(ConnectionError):
    """Another process of the launch has ended, or does not answer."""


@dataclass(frozen=True)
class Ranks(Launch):
    """A launch whose processes talk to one another."""

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
        with _losing_others_raises():
            distributed.broadcast_object_list(box, src=0)
        return box[0]

    def wait_for_all(self, result: Any = None, failure: str = "") -> list[Any]:
        """Waits until every process has come here, and returns the result of each.

        Where one has failed, the others stay until the first process has ended: a launcher ends that one by a
        signal, perhaps before it has recorded the reason, as soon as any of them is gone.

        Raises:
            ValueError: A process has failed; with its reason.
            ProcessGone: A process is gone.
        """
        if self.world_size == 1:
            return [result]
        told: list[Any] = [None] * self.world_size
        with _losing_others_raises():
            distributed.all_gather_object(told, (failure, result))
        first = next((f"rank {rank}: {text}" for rank, (text, _) in enumerate(told) if text), "")
        if first:
            self._fail(first)
        return [item for _, item in told]

    def expect_same(self, facts: Mapping[str, object]) -> None:
        """Compares what every process knows, by name.

        Raises:
            ValueError: In all of them, where one differs from the first.
            ProcessGone: A process is gone.
        """
        told = self.wait_for_all({name: str(value) for name, value in facts.items()})
        for rank, found in enumerate(told):
            for name, value in told[0].items():
                if found[name] != value:
                    self._fail(
                        f"{name}: found {value} in the first process and {found[name]} in rank {rank}, expected "
                        "the same in all processes of a launch"
                    )

    def _fail(self, reason: str) -> NoReturn:
        """Ends the first process, then the others, for one reason that all have heard."""
        if self.rank > 0:
            with suppress(RuntimeError):
                distributed.barrier()  # to which the first process never comes
        raise ValueError(reason)

    @contextmanager
    def tell_failure(self) -> Iterator[None]:
        """Ends in `wait_for_all`, with the reason, where the `with` block fails."""
        try:
            yield
        except Exception as error:
            with suppress(ValueError, ProcessGone):
                self.wait_for_all(failure=str(error) or type(error).__name__)
            raise


@contextmanager
def _losing_others_raises() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ProcessGone(f"another process of this launch is gone: {error}") from error


@contextmanager
def join_ranks(environment: Mapping[str, str] = os.environ) -> Iterator[Ranks]:
    """Finds the processes of this launch by the variables that launchers set, and connects them."""
    ranks = Ranks.read(environment)
    if ranks.world_size == 1:
        yield Ranks()
        return
    distributed.init_process_group("gloo", timeout=LONGEST_WAIT)
    yield ranks
    # A process that fails leaves the others waiting until it ends: see `wait_for_all`.
    distributed.destroy_process_group()
