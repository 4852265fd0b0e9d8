"""The countermeasure: Sensitive Layer Selection over all layers of XLS-R (Zhang, Wen and Hu, 2024)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sls.config import NUM_SAMPLES
from sls.models.batch_norm import SharedBatchNorm
from sls.models.encoder_config import EncoderConfig
from sls.models.xlsr import Xlsr
from sls.quotation import count_of

POOL_SIZE = 3  # frames and dimensions that the max-pooling takes together
HIDDEN_DIM = 1024
NUM_CLASSES = 2  # spoof, bona fide


class LayerEncoder(Protocol):
    """An encoder that yields the output of every layer: `Xlsr`, or fairseq's own."""

    @property
    def transformer_layers(self) -> nn.ModuleList:
        """The layers, lowest first."""

    def __call__(self, waveforms: Tensor) -> Iterable[Tensor]:
        """Yields `(batch, frames, dim)` for each layer of waveforms `(batch, num_samples)`."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Returns the weights that may be trained."""

    def portable_state_dict(self) -> dict[str, Tensor]:
        """Returns the weights by the names of `Xlsr`."""


@dataclass(frozen=True)
class Explanation:
    """What the countermeasure says of a batch, and how much it listened to each layer."""

    log_probs: Tensor
    """Log-probabilities of spoof and bona fide. Shape: `(batch, 2)`."""
    layer_weights: Tensor
    """Weight of each layer, between 0 and 1. Shape: `(batch, num_layers)`."""


def count_inputs(dim: int, num_frames: int) -> int:
    """Returns how many numbers the pooling leaves of `(frames, dim)`: the inputs of `fc1`."""
    return (num_frames // POOL_SIZE) * (dim // POOL_SIZE)


class LayerWeighing(nn.Linear):
    """Gives a layer its weight, and adds it so weighed to the layers before."""

    def forward(  # type: ignore[override]  # its weights' published names make it a linear layer
        self, x: Tensor, fused: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Returns the sum with a layer `(batch, frames, dim)`, in its shape, and the layer's weight `(batch, 1)`."""
        weight = torch.sigmoid(super().forward(x.mean(dim=1)))
        weighted = x * weight.unsqueeze(-1)
        return weighted if fused is None else fused + weighted, weight


class SlsClassifier(nn.Module):
    """Sensitive Layer Selection and the classifier behind it (Zhang, Wen and Hu, ACM MM 2024, section 3).

    The names of the parts are those of published files. A SELU on the logits, before the log-softmax, is
    part of the published model. It is made for layers `(frames, dim)`.

    Raises:
        ValueError: if there are too few frames or dimensions to pool.
    """

    def __init__(self, dim: int, num_frames: int) -> None:
        super().__init__()
        if min(dim, num_frames) < POOL_SIZE:
            raise ValueError(
                f"classifier input: found {count_of(num_frames, 'frame')} of dimension {dim}, "
                f"expected at least {POOL_SIZE} of each"
            )
        self.fc0 = LayerWeighing(dim, 1)
        # One channel: every frame and dimension of a batch shares one mean and one variance.
        self.first_bn = SharedBatchNorm(num_features=1)
        self.fc1 = nn.Linear(count_inputs(dim, num_frames), HIDDEN_DIM)
        self.fc3 = nn.Linear(HIDDEN_DIM, NUM_CLASSES)

    def forward(self, layer_outputs: Iterable[Tensor]) -> Explanation:
        """Weighs the layers, sums them, and classifies the sum.

        The sum grows layer by layer, so an encoder that yields its layers needs to hold only one of them
        when no gradient is asked for.

        Args:
            layer_outputs: The output of each layer, first layer first. Shape of each: `(batch, frames, dim)`.
        """
        fused: Tensor | None = None
        weights = []
        for x in layer_outputs:
            fused, weight = self.fc0(x, fused)
            weights.append(weight)
        if fused is None:
            raise ValueError("layer_outputs: found no layer, expected at least one")
        return Explanation(self.classify(fused), torch.cat(weights, dim=1))

    def classify(self, fused: Tensor) -> Tensor:
        """Returns log-probabilities `(batch, 2)` for the weighted sum of layers `(batch, frames, dim)`."""
        x = F.selu(self.first_bn(fused.unsqueeze(1)))
        x = F.max_pool2d(x, POOL_SIZE).flatten(1)
        x = F.selu(self.fc1(x))
        logits = F.selu(self.fc3(x))
        # A half-precision logarithm would round scores to three digits.
        return F.log_softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))


class Countermeasure(nn.Module):
    """XLS-R with the SLS classifier: from raw waveforms to log-probabilities of spoof and bona fide.

    The score of an utterance is column 1, log P(bona fide). In evaluation mode the model changes nothing of
    itself, so several threads may call it at once.

    Args:
        encoder: Shape of the encoder.
        num_samples: Length of the waveforms, on which the classifier's size depends.
        xlsr: An encoder to use in place of our own, which yields layer outputs as `Xlsr` does.
    """

    def __init__(
        self, encoder: EncoderConfig, num_samples: int = NUM_SAMPLES, xlsr: LayerEncoder | None = None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.num_samples = num_samples
        self.xlsr = Xlsr(encoder) if xlsr is None else xlsr
        self.classifier = SlsClassifier(encoder.dim, encoder.count_frames(num_samples))

    def forward(self, waveforms: Tensor) -> Tensor:
        """Returns the log-probabilities `(batch, 2)` of spoof and bona fide.

        Args:
            waveforms: Raw samples, not normalised. Shape: `(batch, num_samples)`.

        Raises:
            ValueError: on waveforms of another shape.
        """
        return self.explain(waveforms).log_probs

    def explain(self, waveforms: Tensor) -> Explanation:
        """Returns the log-probabilities, and with them the weight that SLS gave to each layer.

        In a training step with layer drop, a dropped layer has no weight.

        Args and errors as `forward`.
        """
        if waveforms.ndim != 2 or waveforms.shape[1] != self.num_samples:
            raise ValueError(
                f"waveforms: found shape {tuple(waveforms.shape)}, expected (batch, {self.num_samples})"
            )
        return self.classifier(self.xlsr(waveforms))

    def freeze_lower_layers(self, num_layers: int) -> None:
        """Leaves the encoder's lowest layers, and convolutions, untrained: -1 all, 0 none, ValueError for more."""
        layers = self.xlsr.transformer_layers
        if not -1 <= num_layers <= len(layers):
            raise ValueError(
                f"freeze_layers: found {num_layers}, expected at most the {len(layers)} layers of the encoder"
            )
        if num_layers == 0:
            return
        first_trained = len(layers) if num_layers == -1 else num_layers
        trained = {id(parameter) for parameter in layers[first_trained:].parameters()}
        for parameter in self.xlsr.parameters():
            if id(parameter) not in trained:
                parameter.requires_grad_(False)

    def portable_state_dict(self) -> dict[str, Tensor]:
        """Returns the weights by the names under which our checkpoints hold them, whatever the encoder."""
        weights = {f"xlsr.{name}": tensor for name, tensor in self.xlsr.portable_state_dict().items()}
        head = self.classifier.state_dict()
        return weights | {f"classifier.{name}": tensor for name, tensor in head.items()}
