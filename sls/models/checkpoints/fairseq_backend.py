"""The reference implementation: the encoder run by fairseq itself, where it is installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from sls.models.checkpoints.foreign_configs import fairseq_fields
from sls.models.checkpoints.names import fairseq_names
from sls.models.encoder_config import EncoderConfig

DISTRIBUTION = "fairseq-fixed==0.12.3.1"
"""What brings fairseq to Python 3.11 and later; built from source, with a C++ compiler."""


class FairseqXlsr(nn.Module):
    """XLS-R as fairseq computes it, in place of `Xlsr`; raises ValueError where fairseq is not installed."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        fairseq = _import_fairseq()
        self.model = fairseq.Wav2Vec2Model.build_model(fairseq.Wav2Vec2Config(**fairseq_fields(config)))
        self.model.remove_pretraining_modules()
        self.model.mask_emb.requires_grad_(False)
        if config.layer_norm_first:
            self.model.encoder.layer_norm.requires_grad_(False)

    def forward(self, waveforms: Tensor) -> Iterator[Tensor]:
        """Yields the output of each transformer layer, as `Xlsr.forward` does. Shape: `(batch, frames, dim)`."""
        results = self.model(waveforms, mask=False, features_only=True)["layer_results"]
        for output, *_ in results:
            yield output.transpose(0, 1)

    def __deepcopy__(self, memo: dict[int, Any]) -> FairseqXlsr:
        """Builds a second encoder with these weights, for averages of them.

        The weight normalisation that fairseq uses keeps a tensor which Python's own way cannot copy.
        """
        with torch.random.fork_rng(devices=[]):
            copied = FairseqXlsr(self.config)
        copied.to(self.model.mask_emb.device).load_state_dict(self.state_dict())
        for own, other in zip(self.parameters(), copied.parameters(), strict=True):
            other.requires_grad_(own.requires_grad)
        return copied.train(self.training)

    @property
    def transformer_layers(self) -> nn.ModuleList:
        """The layers, lowest first."""
        return self.model.encoder.layers

    def portable_state_dict(self) -> dict[str, Tensor]:
        """Returns the weights by the names of `Xlsr`."""
        state = self.model.state_dict()
        return {ours: state[theirs] for ours, theirs in fairseq_names(self.config).items()}

    def load_portable_state_dict(self, weights: Mapping[str, Tensor]) -> None:
        """Takes over the weights of an `Xlsr`."""
        names = fairseq_names(self.config)
        state = {names[ours]: tensor for ours, tensor in weights.items()}
        state["mask_emb"] = self.model.mask_emb
        self.model.load_state_dict(state)


def _import_fairseq() -> ModuleType:
    try:
        from fairseq.models.wav2vec import wav2vec2
    except ImportError as error:
        raise ValueError(
            "backend: found fairseq, which is not installed here; "
            f"install it (pip install {DISTRIBUTION}), or use backend=torchaudio"
        ) from error
    return wav2vec2
