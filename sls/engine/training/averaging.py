"""The weights that an epoch is judged by and saved with: those of its last step, or a mean over several.

A mean is an exponential moving average over steps, or the plain mean over the last epochs (Izmailov et al.,
UAI 2018). Batch statistics are averaged like weights.
"""

import copy
from collections import deque
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sls.config import TrainingConfig
from sls.models.countermeasure import Countermeasure


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
        weights = {name: tensor.cpu().clone() for name, tensor in self._model.state_dict().items()}
        self._recent.append(weights)
        self._set_result()

    def state_dict(self) -> dict[str, Any]:
        """Returns the weights after the last epochs."""
        return {"recent": list(self._recent)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from the weights after the last epochs."""
        self._recent.clear()
        self._recent.extend(state["recent"])
        if self._recent:
            self._set_result()

    def _set_result(self) -> None:
        mean = dict(self._recent[-1])  # a count has no mean
        for name, last in mean.items():
            if last.is_floating_point():
                mean[name] = torch.stack([weights[name] for weights in self._recent]).mean(dim=0)
        self.result.load_state_dict(mean)


def make_average(model: Countermeasure, config: TrainingConfig) -> LastWeights:
    """Returns the mean that is set, over a model that is trained in place on the device it is on."""
    if config.ema_decay:
        return MovingAverage(model, config.ema_decay)
    if config.average_epochs > 1:
        return EpochAverage(model, config.average_epochs)
    return LastWeights(model)
