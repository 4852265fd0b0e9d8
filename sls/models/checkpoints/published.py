"""SLS checkpoints as others publish them: fairseq's names for the encoder, one flat dictionary."""

import logging
import re
from collections.abc import Mapping

from torch import Tensor

from sls.config import NUM_SAMPLES
from sls.models.checkpoints.initial import WithoutInitialValues
from sls.models.checkpoints.names import (
    FAIRSEQ_UNUSED,
    check_size,
    encoder_shapes,
    fairseq_names,
    fill_countermeasure,
)
from sls.models.checkpoints.wrappings import ENCODER_PREFIX
from sls.models.countermeasure import POOL_SIZE, Countermeasure
from sls.models.encoder_config import NAMED_ENCODERS, EncoderConfig

_LOGGER = logging.getLogger(__name__)


def restore_published(
    state: Mapping[str, Tensor], encoder: EncoderConfig | None, source: str
) -> Countermeasure:
    """Returns the countermeasure that a published file holds; the length of its waveforms follows from its shapes.

    Without an encoder it is the known one whose shapes the weights, as `unwrap` gives them, have.

    Raises:
        ValueError: no known encoder has its shapes, or one line that lists all weights that are missing,
            unexpected or of another shape.
    """
    encoder = encoder or _recognise_encoder(state, source)
    check_size(state, encoder, source)
    fc1 = state.get("fc1.weight")
    with WithoutInitialValues():
        num_samples = NUM_SAMPLES if fc1 is None else infer_num_samples(fc1, encoder, source)
        model = Countermeasure(encoder, num_samples)
    # What serves pre-training alone.
    unused = re.compile(re.escape(ENCODER_PREFIX) + FAIRSEQ_UNUSED.pattern)
    fill_countermeasure(model, state, published_names(model), unused, source)
    return model


def _recognise_encoder(state: Mapping[str, Tensor], source: str) -> EncoderConfig:
    """Returns the known encoder whose shapes a published file has.

    The shapes leave open the number of heads, the order of normalisation, the strides and the dropouts: only
    an encoder known by name can be recognised by them.
    """
    found = {
        theirs: tensor.shape
        for name, tensor in state.items()
        if name.startswith(ENCODER_PREFIX)
        if not FAIRSEQ_UNUSED.match(theirs := name.removeprefix(ENCODER_PREFIX))
    }
    for known, config in NAMED_ENCODERS.items():
        shapes = encoder_shapes(config)
        if found == {theirs: shapes[ours] for ours, theirs in fairseq_names(config).items()}:
            _LOGGER.warning("%s: taken for XLS-R %s by its shapes, without dropout", source, known)
            return config
    raise ValueError(
        f"{source}: the shapes of its encoder are not those of {', '.join(NAMED_ENCODERS)}; "
        "import_checkpoint takes, as xlsr, the XLS-R file that it was trained from, for its configuration"
    )


def infer_num_samples(fc1_weight: Tensor, encoder: EncoderConfig, source: str) -> int:
    """Returns the length of the waveforms for which the classifier `fc1` was made.

    Pooling leaves up to three lengths in frames open: the published length if it is one of them, else the
    shortest.

    Raises:
        ValueError: if no length fits.
    """
    pooled_dims = encoder.dim // POOL_SIZE
    num_inputs = fc1_weight.shape[-1] if fc1_weight.ndim == 2 else 0
    pooled_frames, remainder = divmod(num_inputs, pooled_dims)
    if remainder or not pooled_frames:
        raise ValueError(
            f"{source}: fc1.weight: found {num_inputs} inputs, expected a multiple of {pooled_dims}"
        )
    if encoder.count_frames(NUM_SAMPLES) // POOL_SIZE == pooled_frames:
        return NUM_SAMPLES
    num_samples = pooled_frames * POOL_SIZE
    for _, kernel, stride in reversed(encoder.conv_layers):
        num_samples = (num_samples - 1) * stride + kernel
    _LOGGER.warning("%s: the length of its waveforms is taken for %d samples", source, num_samples)
    return num_samples


def published_names(model: Countermeasure) -> dict[str, str]:
    """Returns the published name of each weight, without `module.`, by ours."""
    names = {
        f"xlsr.{ours}": f"{ENCODER_PREFIX}{theirs}" for ours, theirs in fairseq_names(model.encoder).items()
    }
    return names | {f"classifier.{name}": name for name in model.classifier.state_dict()}
