"""XLS-R: from a waveform to the output of every transformer layer, in one pass."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchaudio.models import wav2vec2_model

from sls.models.encoder_config import EncoderConfig
from sls.models.encoder_parts import Attention, Convolutions, Positions


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
        transformer = self.wav2vec2.encoder.transformer
        transformer.pos_conv_embed = Positions(transformer.pos_conv_embed)
        for layer in transformer.layers:
            layer.attention = Attention(layer.attention)
        if not config.has_projection:
            self.wav2vec2.encoder.feature_projection.projection = nn.Identity()
        if config.layer_norm_first:
            # SLS reads each layer before this normalisation, so it never gets a gradient; a parameter that
            # waits for one stops a multi-process training.
            transformer.layer_norm.requires_grad_(False)

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
        x = x + transformer.pos_conv_embed(x)
        if not self.config.layer_norm_first:
            x = transformer.layer_norm(x)
        return transformer.dropout(x)

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
