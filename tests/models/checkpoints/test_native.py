import json
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sls.models.checkpoints import CheckpointInfo, load_checkpoint, save_checkpoint
from sls.models.checkpoints.pickles import is_pickle
from sls.models.countermeasure import Countermeasure
from sls.models.encoder_config import EncoderConfig


@pytest.fixture
def info(model: Countermeasure) -> CheckpointInfo:
    return CheckpointInfo(
        encoder=model.encoder,
        num_samples=model.num_samples,
        epoch=2,
        recipe="v1",
        run_id="0123abcd",
        config={"lr": 1e-6, "loss_weights": [0.1, 0.9], "xlsr_model": "xlsr2_300m.pt"},
        provenance={"commit": "abc", "data": {"train": "sha256:12"}},
    )


@pytest.fixture
def path(model: Countermeasure, info: CheckpointInfo, tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "out" / "epoch_2.safetensors", model, info)


def test_a_checkpoint_gives_back_the_model_and_its_description(
    path: Path, model: Countermeasure, info: CheckpointInfo, waveforms: Tensor
) -> None:
    loaded = load_checkpoint(path)
    assert loaded.info == info
    assert not loaded.model.training
    assert loaded.model.state_dict().keys() == model.state_dict().keys()
    with torch.inference_mode():
        assert torch.equal(loaded.model(waveforms), model(waveforms))


@pytest.mark.slow
def test_a_loaded_model_trains_as_the_saved_one_does(
    path: Path, model: Countermeasure, waveforms: Tensor
) -> None:
    after = []
    for one in (model, load_checkpoint(path).model):
        optimizer = torch.optim.Adam(one.train().parameters(), lr=1e-3)
        for _ in range(3):
            optimizer.zero_grad()
            one(waveforms)[:, 1].sum().backward()
            optimizer.step()
        after.append(one.state_dict())
    for name, tensor in after[0].items():
        assert torch.equal(tensor, after[1][name]), name


def test_training_a_loaded_model_leaves_its_file_alone(path: Path, waveforms: Tensor) -> None:
    before = path.read_bytes()
    model = load_checkpoint(path).model.train()
    model(waveforms)[:, 1].sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    assert path.read_bytes() == before


def test_the_digest_is_that_of_the_file(path: Path) -> None:
    import hashlib

    assert load_checkpoint(path).digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_description_is_json_in_the_header(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "sls-countermeasure/1"
    assert json.loads(metadata["info"])["epoch"] == 2


def test_a_checkpoint_holds_the_weights_alone(path: Path, model: Countermeasure) -> None:
    assert load_file(path).keys() == model.portable_state_dict().keys()


@pytest.mark.parametrize("num_bytes", [0, 4, 100, 5_000, -1])
def test_a_cut_file_is_refused_in_one_line(path: Path, num_bytes: int) -> None:
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(ValueError, match=r"epoch_2.safetensors: ") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_header_of_nonsense_is_refused(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 40) + b"{" * 100)
    with pytest.raises(ValueError, match=r"epoch_2.safetensors: "):
        load_checkpoint(path)


@pytest.mark.parametrize("length", [0x80, 0x0A8A0280])
def test_a_header_whose_length_looks_like_a_pickle_is_no_pickle(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    assert is_pickle(path) == (length == 0x0A8A0280)  # a header of 176 MB, which nobody writes


def test_a_failed_write_leaves_the_old_file_and_no_other(
    path: Path, model: Countermeasure, info: CheckpointInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(tensors: object, target: Path, metadata: object) -> None:
        target.write_bytes(b"half of it")
        raise OSError("no space left on device")

    before = path.read_bytes()
    monkeypatch.setattr("sls.models.checkpoints.native.save_file", fail)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(path, model, info)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_description_of_another_model_is_refused(
    model: Countermeasure, info: CheckpointInfo, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"a.safetensors: .*9000 samples"):
        save_checkpoint(tmp_path / "a.safetensors", model, replace(info, num_samples=9_000))


@pytest.mark.parametrize("value", [Path("x"), float("nan"), {1, 2}])
def test_a_description_that_is_not_plain_data_is_refused(
    model: Countermeasure, info: CheckpointInfo, tmp_path: Path, value: object
) -> None:
    with pytest.raises(ValueError, match=r"a.safetensors: .*JSON"):
        save_checkpoint(tmp_path / "a.safetensors", model, replace(info, config={"x": value}))
    assert not list(tmp_path.glob("a*"))


def rewrite(path: Path, change: Callable[[dict[str, Tensor], dict[str, str]], None]) -> None:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def test_missing_unexpected_and_misshaped_weights_are_listed_in_one_error(path: Path) -> None:
    def change(tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        del tensors["classifier.fc0.bias"]
        tensors["classifier.fc9.bias"] = torch.zeros(1)
        tensors["classifier.fc3.weight"] = torch.zeros(3, 1024)

    rewrite(path, change)
    with pytest.raises(ValueError, match=r"epoch_2.safetensors: ") as caught:
        load_checkpoint(path)
    for part in (
        r"\b1 missing \(classifier\.fc0\.bias\)",
        r"\b1 unexpected \(classifier\.fc9\.bias\)",
        r"\b1 .*\(classifier\.fc3\.weight \(3, 1024\) .*\(2, 1024\)\)",
    ):
        assert re.search(part, str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "format",
            "sls-countermeasure/2",
            "format: found sls-countermeasure/2, ",
        ),
        ("info", "{", r"epoch_2.safetensors: .*description"),
        ("info", "{}", r"epoch_2.safetensors: .*description"),
    ],
)
def test_an_unknown_format_or_description_is_refused(path: Path, key: str, value: str, message: str) -> None:
    rewrite(path, lambda tensors, metadata: metadata.update({key: value}))
    with pytest.raises(ValueError, match=message):
        load_checkpoint(path)


def test_a_model_of_another_precision_is_loaded_in_fp32(
    model: Countermeasure, info: CheckpointInfo, tmp_path: Path
) -> None:
    path = save_checkpoint(tmp_path / "half.safetensors", model.to(torch.bfloat16), info)
    assert {p.dtype for p in load_checkpoint(path).model.parameters()} == {torch.float32}


def test_a_random_start_can_be_saved_too(small_config: EncoderConfig, tmp_path: Path) -> None:
    model = Countermeasure(small_config, 8_000)
    path = save_checkpoint(tmp_path / "a.safetensors", model, CheckpointInfo(small_config, 8_000))
    assert load_checkpoint(path).info.encoder == small_config
