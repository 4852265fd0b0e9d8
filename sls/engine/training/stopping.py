"""Early stopping, and the choice of the epoch."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

# The metric that each value of the setting `monitor` watches.
MONITORED_METRICS = {"train_loss": "train/loss", "val_loss": "val/loss"}


@dataclass
class EarlyStopping:
    """Stops once a loss has not improved for `patience` epochs.

    An equal loss is no improvement, so that of two equal epochs the earlier is chosen.
    """

    patience: int
    best_loss: float = math.inf
    epochs_without_improvement: int = 0

    def update(self, loss: float) -> bool:
        """Takes in the loss of the next epoch, and returns whether it is the best so far."""
        if loss < self.best_loss:
            self.best_loss, self.epochs_without_improvement = loss, 0
            return True
        self.epochs_without_improvement += 1
        return False

    def state_dict(self) -> dict[str, Any]:
        """Returns plain data, to go on from."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from where another stood; patience is what is set now."""
        self.__dict__.update({**state, "patience": self.patience})

    @property
    def should_stop(self) -> bool:
        """Whether patience is at its end."""
        return self.epochs_without_improvement >= self.patience


def choose_epochs(loss_by_epoch: Mapping[int, float], count: int = 1) -> list[int]:
    """Returns so many epochs of the lowest losses, best first, the earlier of equals; all, where there are fewer.

    Raises ValueError without one, or for NaN.
    """
    if not loss_by_epoch:
        raise ValueError("choice of epoch: no epoch was logged")
    broken = [epoch for epoch, loss in loss_by_epoch.items() if math.isnan(loss)]
    if broken:
        raise ValueError(f"choice of epoch: the loss of epoch {broken[0]} is not a number")
    return sorted(sorted(loss_by_epoch), key=lambda epoch: loss_by_epoch[epoch])[:count]
