"""The weights that an epoch is judged by and saved with: those of its last step, or a mean over several.

A mean is an exponential moving average over steps, or the plain mean over the last epochs (Izmailov et al.,
UAI 2018). Batch statistics are averaged like weights. The mean of the best epochs, which is taken when all are known,
is made by `mean_weights` too.
"""

import copy
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, cast

from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sls.config import TrainingConfig
from sls.models.countermeasure import Countermeasure


def copy_weights(model: Countermeasure) -> dict[str, Tensor]:
    """Returns a copy of a model's weights and batch statistics, in the computer's memory."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def mean_weights(weights: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Returns the mean of weights of one model, by name; they may be made one after the other.

    Sums are of double precision and rounded once. Batch statistics are averaged like weights. A whole number, such as
    how many batches these were taken over, has no mean: it is that of the last.

    Raises:
        ValueError: There are none.
    """
    sums: dict[str, Tensor] = {}
    last: Mapping[str, Tensor] = {}
    count = 0
    for last in weights:
        count += 1
        for name, tensor in last.items():
            if tensor.is_floating_point():
                sums[name] = sums[name] + tensor if name in sums else tensor.double()
    if not count:
        raise ValueError("weights: found none, expected one or more")
    return {
        name: (sums[name] / count).to(tensor.dtype) if name in sums else tensor
        for name, tensor in last.items()
    }


class LastWeights:
    """No mean: the model as it is."""

    def __init__(self, model: Countermeasure) -> None:
        self.result = model

    def after_step(self) -> None:
        """Takes in the weights after a step."""

    def after_epoch(self) -> None:
        """Takes in the weights after an epoch; `result` is then the model of that epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Returns what is needed to go on, as plain data and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""


class MovingAverage(LastWeights):
    """The exponential moving average over steps; it begins as the weights after the first step."""

    def __init__(self, model: Countermeasure, decay: float) -> None:
        self._model = model
        self._average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self.result = cast(Countermeasure, self._average.module)

    def after_step(self) -> None:
        """Takes in the weights after a step."""
        self._average.update_parameters(self._model)

    def state_dict(self) -> dict[str, Any]:
        """Returns the average."""
        return self._average.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from an average."""
        self._average.load_state_dict(state)


class EpochAverage(LastWeights):
    """The mean of the weights after the last epochs; in the first ones, of as many as there are."""

    def __init__(self, model: Countermeasure, num_epochs: int) -> None:
        self._model = model
        self._recent: deque[dict[str, Tensor]] = deque(maxlen=num_epochs)
        self.result = copy.deepcopy(model)

    def after_epoch(self) -> None:
        """Takes in the weights after an epoch."""
        self._recent.append(copy_weights(self._model))
        self.result.load_state_dict(mean_weights(self._recent))

    def state_dict(self) -> dict[str, Any]:
        """Returns the weights after the last epochs."""
        return {"recent": list(self._recent)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from the weights after the last epochs."""
        self._recent.clear()
        self._recent.extend(state["recent"])
        if self._recent:
            self.result.load_state_dict(mean_weights(self._recent))


def make_average(model: Countermeasure, config: TrainingConfig) -> LastWeights:
    """Returns the mean that is set, over a model that is trained in place on the device it is on."""
    if config.ema_decay:
        return MovingAverage(model, config.ema_decay)
    if config.average_epochs > 1:
        return EpochAverage(model, config.average_epochs)
    return LastWeights(model)
