import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.published_weights import write_published
from sls.models.checkpoints import build_countermeasure, load_checkpoint
from sls.models.checkpoints.names import FAIRSEQ_UNUSED
from sls.models.checkpoints.published import infer_num_samples, published_names
from sls.models.countermeasure import Countermeasure
from sls.models.encoder_config import NAMED_ENCODERS, EncoderConfig


@pytest.fixture
def xlsr(write_fairseq: Callable[..., Path]) -> Path:
    return write_fairseq()


@pytest.fixture
def path(model: Countermeasure, fairseq_state: dict[str, Tensor], tmp_path: Path) -> Path:
    unused = {name: tensor for name, tensor in fairseq_state.items() if FAIRSEQ_UNUSED.match(name)}
    return write_published(tmp_path / "epoch_2.pth", model, unused)


def rewrite(path: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    state = torch.load(path, weights_only=True)
    torch.save(change(state) or state, path)


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_a_published_file_scores_as_its_model(
    path: Path, xlsr: Path, model: Countermeasure, waveforms: Tensor, prefix: str
) -> None:
    rewrite(path, lambda state: {prefix + name.removeprefix("module."): t for name, t in state.items()})
    loaded = load_checkpoint(path, xlsr=xlsr)
    assert loaded.info.encoder == model.encoder
    assert loaded.info.provenance["format"] == "published SLS"
    assert loaded.info.provenance["sha256"] == loaded.digest
    with torch.inference_mode():
        assert torch.equal(loaded.model(waveforms), model(waveforms))


def test_a_passing_copy_is_named_by_where_the_user_finds_it(
    path: Path, xlsr: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        load_checkpoint(path, xlsr=xlsr, place="models:/xlsr-sls/3")
    assert "models:/xlsr-sls/3: not used" in caplog.text
    assert str(path.parent) not in caplog.text.replace(str(xlsr), "")


def test_every_weight_has_its_name_in_the_seed_system(golden_dir: Path) -> None:
    original = torch.load(golden_dir / "sls_tiny_epoch_0.pth", weights_only=True)
    model = load_checkpoint(golden_dir / "sls_tiny_epoch_0.pth", xlsr=golden_dir / "xlsr_tiny.pt").model
    weights = model.portable_state_dict()
    for ours, theirs in published_names(model).items():
        assert torch.equal(weights[ours], original.pop(f"module.{theirs}")), theirs
    assert all(FAIRSEQ_UNUSED.match(name.removeprefix("module.ssl_model.model.")) for name in original)


def test_a_known_encoder_is_recognised_by_its_shapes_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = build_countermeasure("random:tiny", 64_600, seed=1).eval()
    loaded = load_checkpoint(write_published(tmp_path / "a.pth", model))
    assert (loaded.info.encoder, loaded.info.num_samples) == (NAMED_ENCODERS["tiny"], 64_600)
    assert "XLS-R tiny" in caplog.text


def test_an_unknown_encoder_asks_for_its_file(path: Path) -> None:
    with pytest.raises(ValueError, match=r"epoch_2.pth: .*import_checkpoint .*xlsr"):
        load_checkpoint(path)


def test_every_key_is_accounted_for_in_one_error(path: Path, xlsr: Path) -> None:
    def change(state: dict[str, Tensor]) -> None:
        del state["module.fc0.weight"]
        del state["module.ssl_model.model.encoder.layers.1.fc1.bias"]
        state["module.ssl_model.model.adapter.weight"] = torch.zeros(1)
        state["module.quantizer.vars"] = torch.zeros(1)
        state["module.ssl_model.model.layer_norm.bias"] = torch.zeros(3)

    rewrite(path, change)
    with pytest.raises(ValueError, match=r"epoch_2.pth: ") as caught:
        load_checkpoint(path, xlsr=xlsr)
    message = str(caught.value)
    assert "2 missing (ssl_model.model.encoder.layers.1.fc1.bias, fc0.weight)" in message
    assert "2 unexpected (ssl_model.model.adapter.weight, quantizer.vars)" in message
    assert re.search(r"\b1 .*\(ssl_model\.model\.layer_norm\.bias \(3,\) .*\(16,\)\)", message)
    assert "\n" not in message


def test_the_wrong_xlsr_file_is_an_error(
    path: Path, write_fairseq: Callable[..., Path], fairseq_fields: dict[str, Any]
) -> None:
    model = {**fairseq_fields, "encoder_layers": 4}
    with pytest.raises(ValueError, match="16 missing"):
        load_checkpoint(path, xlsr=write_fairseq(cfg={"model": model}))


@pytest.mark.parametrize(
    ("pooled_frames", "expected"),
    [(67, 64_600), (1, 400 + 2 * 320), (8, 400 + 23 * 320), (100, 400 + 299 * 320)],
)
def test_the_length_is_inferred_from_the_classifier(pooled_frames: int, expected: int) -> None:
    encoder = EncoderConfig()
    weight = torch.empty(1, pooled_frames * (1024 // 3))
    assert infer_num_samples(weight, encoder, "file") == expected
    assert encoder.count_frames(expected) // 3 == pooled_frames


def test_a_classifier_of_no_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fc1.weight: found 22848 .* 341"):
        infer_num_samples(torch.empty(1, 22_848), EncoderConfig(), "file")


def test_keys_that_are_not_used_are_named(path: Path, xlsr: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        load_checkpoint(path, xlsr=xlsr)
    prefix = "ssl_model.model."
    assert (
        f"epoch_2.pth: not used: {prefix}final_proj.bias, {prefix}final_proj.weight, {prefix}mask"
        in caplog.text
    )
    assert "xlsr.pt: not used: final_proj.bias, final_proj.weight, mask_emb, project_q.bias" in caplog.text
