"""XLS-R: from a waveform to the output of every transformer layer, in one pass."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torchaudio.models import wav2vec2_model
from torchaudio.models.wav2vec2.components import FeatureExtractor, LayerNorm

from sls.models.encoder_config import EncoderConfig


class Xlsr(nn.Module):
    """The encoder of wav2vec 2.0 (Baevski et al., 2020) and XLS-R (Babu et al., 2021), by torchaudio.

    The waveform goes in as it is: pre-training normalises each utterance, the published countermeasures
    do not.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.wav2vec2 = wav2vec2_model(
            extractor_mode=config.extractor_mode,
            extractor_conv_layer_config=list(config.conv_layers),
            extractor_conv_bias=config.conv_bias,
            encoder_embed_dim=config.dim,
            encoder_projection_dropout=config.projection_dropout,
            encoder_pos_conv_kernel=config.pos_conv_kernel,
            encoder_pos_conv_groups=config.pos_conv_groups,
            encoder_num_layers=config.num_layers,
            encoder_num_heads=config.num_heads,
            encoder_attention_dropout=config.attention_dropout,
            encoder_ff_interm_features=config.ffn_dim,
            encoder_ff_interm_dropout=config.activation_dropout,
            encoder_dropout=config.dropout,
            encoder_layer_norm_first=config.layer_norm_first,
            encoder_layer_drop=config.layer_drop,
            aux_num_out=None,
        )
        self.wav2vec2.feature_extractor = Convolutions(self.wav2vec2.feature_extractor.conv_layers)
        if not config.has_projection:
            self.wav2vec2.encoder.feature_projection.projection = nn.Identity()
        if config.layer_norm_first:
            # SLS reads each layer before this normalisation, so it never gets a gradient; a parameter that
            # waits for one stops a multi-process training.
            self.wav2vec2.encoder.transformer.layer_norm.requires_grad_(False)

    def forward(self, waveforms: Tensor) -> Iterator[Tensor]:
        """Yields the output of each transformer layer, before the encoder's last LayerNorm.

        A layer that layer drop leaves out of a training step is not yielded, as in fairseq; should all be
        left out, the last one runs.

        Args:
            waveforms: Samples at the rate of pre-training, 16 kHz. Shape: `(batch, num_samples)`.

        Yields:
            Shape: `(batch, frames, dim)`.
        """
        x = self._embed(waveforms)
        is_kept = self._draw_kept_layers()
        for layer, keep in zip(self.wav2vec2.encoder.transformer.layers, is_kept, strict=True):
            if keep:
                x = self._run_layer(layer, x)
                yield x

    @property
    def transformer_layers(self) -> nn.ModuleList:
        """The layers, lowest first."""
        return self.wav2vec2.encoder.transformer.layers

    def portable_state_dict(self) -> dict[str, Tensor]:
        """Returns the weights by the names under which our checkpoints hold them."""
        return self.state_dict()

    def _embed(self, waveforms: Tensor) -> Tensor:
        """Returns the input of the first layer. Shape: `(batch, frames, dim)`."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.feature_grad_mult > 0):
            features = self.wav2vec2.feature_extractor(waveforms, None)[0]
        factor = self.config.feature_grad_mult
        if features.requires_grad and factor != 1:
            features.register_hook(lambda gradient: gradient * factor)
        x = self.wav2vec2.encoder.feature_projection(features)
        transformer = self.wav2vec2.encoder.transformer
        x = x + self._encode_positions(x)
        if not self.config.layer_norm_first:
            x = transformer.layer_norm(x)
        return transformer.dropout(x)

    def _encode_positions(self, x: Tensor) -> Tensor:
        pos_conv = self.wav2vec2.encoder.transformer.pos_conv_embed
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return pos_conv(x)
        # In bf16 on a CPU with AMX, PyTorch 2.11 computes a grouped convolution of fewer than 16 channels in a
        # group wrongly, by more than the result itself. In fp32 this small part of the work costs little.
        with torch.autocast("cpu", enabled=False):
            return pos_conv(x.float())

    def _draw_kept_layers(self) -> list[bool]:
        num_layers = self.config.num_layers
        if not self.training or self.config.layer_drop == 0:
            return [True] * num_layers
        is_kept = (torch.rand(num_layers) > self.config.layer_drop).tolist()
        return is_kept if any(is_kept) else [False] * (num_layers - 1) + [True]

    def _run_layer(self, layer: nn.Module, x: Tensor) -> Tensor:
        if self.config.checkpoint_activations and torch.is_grad_enabled():
            keep_dice = self.config.has_dropout
            return checkpoint(layer, x, use_reentrant=False, preserve_rng_state=keep_dice)[0]
        return layer(x)[0]


class Convolutions(FeatureExtractor):
    """torchaudio's convolutions, with the channels of a frame side by side in memory where that is faster.

    Normalisation wants them so. In torchaudio's order the frames of a channel are side by side, and copies back and
    forth took a quarter of the time on a CPU, and half of that of the convolutions on a GPU.
    """

    def forward(self, x: Tensor, length: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Returns features `(batch, frames, channels)` of waveforms `(batch, num_samples)`, and their lengths."""
        # With gradients on a CPU torchaudio's order stays, which rounds as fairseq does.
        is_reference = x.device.type == "cpu" and torch.is_grad_enabled()
        is_normalised = all(isinstance(block.layer_norm, LayerNorm) for block in self.conv_layers)
        if is_reference or not is_normalised or length is not None:
            return super().forward(x, length)
        x = x.unsqueeze(2).transpose(1, 2)
        for block in self.conv_layers:
            is_first_on_gpu = x.device.type == "cuda" and block.conv.in_channels == 1
            convolve = _convolve_samples if is_first_on_gpu else _convolve_channels_last
            x = F.gelu(block.layer_norm(convolve(block.conv, x)))
        return x.transpose(1, 2), None


def _convolve_samples(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """Convolves one channel `(batch, 1, samples)` as a product of windows and taps: cuDNN's order would be the other.

    A GPU multiplies rows of a multiple of 8 numbers faster.
    """
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    padding = (0, -kernel % 8)
    windows = F.pad(x[:, 0].unfold(1, kernel, stride), padding)
    return F.linear(windows, F.pad(conv.weight[:, 0], padding), conv.bias).transpose(1, 2)


def _convolve_channels_last(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """Convolves `(batch, channels, frames)`, in memory as `(batch, frames, channels)`, into the same layout.

    PyTorch has that layout for images alone, so frames are taken as the width of an image of height 1.
    """
    weight = conv.weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)
    return F.conv2d(x.unsqueeze(2), weight, conv.bias, stride=(1, conv.stride[0])).squeeze(2)
