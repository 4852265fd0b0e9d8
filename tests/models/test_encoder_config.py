import json
from dataclasses import asdict, replace

import pytest

from sls.models.encoder_config import NAMED_ENCODERS, EncoderConfig


def test_the_paper_input_gives_201_frames() -> None:
    assert NAMED_ENCODERS["300m"].count_frames(64_600) == 201


@pytest.mark.parametrize(("num_samples", "frames"), [(400, 1), (719, 1), (720, 2), (16_000, 49)])
def test_frames_are_25_ms_windows_every_20_ms(num_samples: int, frames: int) -> None:
    assert EncoderConfig().count_frames(num_samples) == frames


def test_a_waveform_shorter_than_a_frame_raises() -> None:
    with pytest.raises(ValueError, match="num_samples: found 399"):
        EncoderConfig().count_frames(399)


@pytest.mark.parametrize("name", NAMED_ENCODERS)
def test_a_configuration_survives_json(name: str) -> None:
    config = NAMED_ENCODERS[name]
    assert EncoderConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config


def test_unknown_and_missing_fields_are_both_named() -> None:
    fields = asdict(EncoderConfig())
    del fields["dim"]
    with pytest.raises(ValueError, match=r"unknown .*'width'.*missing .*'dim'"):
        EncoderConfig.from_dict({**fields, "width": 3})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_layers", 0),
        ("num_heads", 7),
        ("pos_conv_groups", 7),
        ("dropout", 1.0),
        ("layer_drop", -0.1),
        ("extractor_mode", "batch_norm"),
        ("conv_layers", ()),
        ("conv_layers", ((512, 0, 5),)),
        ("has_projection", False),
    ],
)
def test_an_impossible_shape_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: found"):
        replace(EncoderConfig(), **{field: value})
