"""The weights of a new model: random ones, or none yet where a file's will take their place."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sls.config import SAMPLE_RATE_HZ
from sls.models.xlsr import Xlsr

LINEAR_STD, LINEAR_STD_DIM = 0.02, 1024  # fairseq's deviation suits this dimension, that of XLS-R
MIN_FILTER_SAMPLES = 64  # 4 ms
LINEAR_NORM = 5.0  # lifts speech, at about a twentieth of full scale, above the floor of the layer norm

_DRAWS = frozenset(
    {torch.Tensor.uniform_, torch.Tensor.normal_}
    | {nn.init.kaiming_uniform_, nn.init.kaiming_normal_, nn.init.uniform_, nn.init.normal_}
)


class WithoutInitialValues(TorchFunctionMode):
    """Within it, a new model's weights are left as the memory was: no time, and no memory touched.

    The usual way, the meta device, makes weight normalisation import PyTorch's compiler, for seconds.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Skips what draws random numbers into a tensor."""
        if func in _DRAWS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def initialise_encoder(xlsr: Xlsr, filters: str = "") -> None:
    """Draws new weights from the global generator, with the distributions of fairseq's wav2vec 2.0.

    Three departures serve small encoders. The convolutions start without bias: speech comes in unnormalised, at
    about a twentieth of full scale, and fairseq's random biases would drown it. The deviation of linear layers
    grows as their dimension shrinks. A first convolution that is long enough to tell frequencies apart starts
    as one of `FILTERBANKS`, `linear` by default.

    Raises:
        ValueError: there is no such filterbank, or the first convolution is too short for one.
    """
    first = xlsr.wav2vec2.feature_extractor.conv_layers[0].conv
    is_long = first.kernel_size[0] >= MIN_FILTER_SAMPLES
    if filters and not (is_long and filters in FILTERBANKS):
        raise ValueError(
            f"found filters {filters}, expected {' or '.join(FILTERBANKS) if is_long else 'none'}"
        )
    for module in xlsr.modules():
        if isinstance(module, nn.Conv1d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=LINEAR_STD * math.sqrt(LINEAR_STD_DIM / module.in_features))
        if isinstance(module, (nn.Conv1d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)
    pos_conv = xlsr.wav2vec2.encoder.transformer.pos_conv_embed.conv
    scale = math.sqrt(4 / (xlsr.config.pos_conv_kernel * xlsr.config.dim))
    pos_conv.weight = nn.init.normal_(pos_conv.weight.detach().clone(), std=scale)
    if is_long:
        make = FILTERBANKS[filters or "linear"]
        with torch.no_grad():
            first.weight.copy_(make(*first.weight.shape[::2]).unsqueeze(1))


def _linear_filterbank(num_filters: int, num_samples: int) -> Tensor:
    """Returns windowed sinusoids `(num_filters, num_samples)` of random phase, spaced as the filters of LFCC."""
    frequencies_hz = torch.linspace(30, 7900, num_filters + 2)[1:-1, None]
    times_s = torch.arange(num_samples) / SAMPLE_RATE_HZ
    phases = 2 * math.pi * (frequencies_hz * times_s + torch.rand(num_filters, 1))
    filters = phases.cos() * torch.hann_window(num_samples, periodic=False)
    return filters * LINEAR_NORM / filters.norm(dim=1, keepdim=True)


def _mel_filterbank(num_filters: int, num_samples: int) -> Tensor:
    """Returns windowed cosines and sines of frequencies evenly spaced on the mel scale (O'Shaughnessy, 1987).

    The cosine and the sine of each frequency let the next layer find its energy, whatever its phase.

    Returns:
        Shape: `(num_filters, num_samples)`; the norm of each is that of random filters.
    """
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (60, 7600))
    frequencies_hz = 700 * (10 ** (torch.linspace(low, high, (num_filters + 1) // 2) / 2595) - 1)
    phases = 2 * math.pi * frequencies_hz[:, None] * torch.arange(num_samples) / SAMPLE_RATE_HZ
    filters = torch.cat([phases.cos(), phases.sin()])[:num_filters] * torch.hann_window(num_samples)
    return filters * math.sqrt(2) / filters.norm(dim=1, keepdim=True)


FILTERBANKS: Mapping[str, Callable[[int, int], Tensor]] = {
    "linear": _linear_filterbank,
    "mel": _mel_filterbank,
}
"""What a long first convolution can start as. On the synthetic demo corpus `mel` learns within ten epochs, `linear`
not; on minispoof it learns sooner (benchmarks/results/minispoof.md)."""
