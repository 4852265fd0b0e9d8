"""Parts of torchaudio's encoder, with the same weights under the same names, laid out for a GPU.

With gradients on a CPU they compute as torchaudio does, which rounds as fairseq does.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.models.wav2vec2.components import (
    ConvolutionalPositionalEmbedding,
    FeatureExtractor,
    LayerNorm,
    SelfAttention,
)


class Convolutions(FeatureExtractor):
    """torchaudio's convolutions, with the channels of a frame side by side in memory where that is faster.

    Normalisation wants them so. In torchaudio's order the frames of a channel are side by side, and copies back and
    forth took a quarter of the time on a CPU, and half of that of the convolutions on a GPU.
    """

    def forward(self, x: Tensor, length: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Returns features `(batch, frames, channels)` of waveforms `(batch, num_samples)`, and their lengths."""
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


class Positions(nn.Module):
    """torchaudio's convolution that tells a frame its position."""

    def __init__(self, own: ConvolutionalPositionalEmbedding) -> None:
        super().__init__()
        self.conv = own.conv

    def forward(self, x: Tensor) -> Tensor:
        """Returns what is added to frames `(batch, frames, dim)`, in the same shape."""
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # In bf16 on a CPU with AMX, PyTorch 2.11 computes a grouped convolution of fewer than 16 channels in a
            # group wrongly, by more than the result itself. In fp32 this small part of the work costs little.
            with torch.autocast("cpu", enabled=False):
                return self._embed(x.float())
        return self._embed(x)

    def _embed(self, x: Tensor) -> Tensor:
        conv = self.conv
        weight = conv.weight if x.device.type == "cpu" else _normalise_weight(conv)
        padding, groups = conv.padding[0], conv.groups
        embedded = F.conv1d(x.transpose(1, 2), weight, conv.bias, padding=padding, groups=groups)
        # An even kernel gives a frame more than there were.
        return F.gelu(embedded[..., : x.shape[1]]).transpose(1, 2)


def _normalise_weight(conv: nn.Conv1d) -> Tensor:
    """Returns a convolution's weight as PyTorch's kernels do, which take ten times as long on a GPU."""
    own = dict(conv.named_parameters())
    magnitude, direction = (own[f"parametrizations.weight.original{index}"] for index in (0, 1))
    return direction * (magnitude / torch.linalg.vector_norm(direction, dim=(0, 1), keepdim=True))


class Attention(nn.Module):
    """torchaudio's self-attention, on a GPU with one product for queries, keys and values together."""

    def __init__(self, own: SelfAttention) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.dropout = own.num_heads, own.head_dim, own.dropout
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (
            own.k_proj,
            own.v_proj,
            own.q_proj,
            own.out_proj,
        )

    def forward(
        self, x: Tensor, attention_mask: Tensor | None = None, **unused: object
    ) -> tuple[Tensor, None]:
        """Returns what each frame of `(batch, frames, dim)` gathers from all, in the same shape, and None."""
        batch, frames, dim = x.shape
        projections = (self.q_proj, self.k_proj, self.v_proj)
        if x.device.type == "cpu":
            projected = [projection(x) for projection in projections]
        else:
            weight = torch.cat([projection.weight for projection in projections])
            bias = torch.cat([projection.bias for projection in projections])
            projected = list(F.linear(x, weight, bias).chunk(3, dim=-1))
        shape = (batch, frames, self.num_heads, self.head_dim)
        query, key, value = (part.view(shape).transpose(1, 2) for part in projected)
        dropout = self.dropout if self.training else 0.0
        gathered = F.scaled_dot_product_attention(query, key, value, attention_mask, dropout)
        return self.out_proj(gathered.transpose(1, 2).reshape(batch, frames, dim)), None
