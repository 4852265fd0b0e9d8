"""The launch by torchrun or accelerate that this process is part of, by the variables that launchers set."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Launch:
    """This process among those of its launch; one alone by default."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    """Among those of its machine, by which it takes its GPU."""

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Returns what the environment says of it; raises ValueError for what is no number."""
        values = []
        for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)):
            text = environment.get(name) or str(default)
            if not text.isdecimal():
                raise ValueError(f"{name}: found {text}, expected a number, as torchrun sets it; or unset it")
            values.append(int(text))
        return cls(*values)
