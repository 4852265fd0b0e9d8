import dataclasses

import pytest

from sls.config import PROJECT_ROOT, Config
from sls.config_file import RETIRED, build_config, config_fields, read_config_values

CONFIGS = PROJECT_ROOT / "configs"


def read(name: str) -> Config:
    return build_config(read_config_values(CONFIGS / name))


def test_every_default_is_the_papers() -> None:
    flat = Config().to_flat()
    expected = {
        "lr": 1e-6,
        "weight_decay": 1e-4,
        "batch_size": 5,
        "loss_weights": (0.1, 0.9),
        "seed": 1234,
        "algo": 3,
        "audio_max_len": 64_600,
        "sample_rate": 16_000,
        "xlsr_model": "xlsr2_300m.pt",
        "patience": 1,
        "monitor": "train_loss",
        "validation": "none",
    }
    assert {name: flat[name] for name in expected} == expected


def test_a_combination_of_windows_without_windows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"window_combination: found min, .*window_hop"):
        build_config({"window_combination": "min"})
    assert build_config({"window_combination": "mean"}).scoring == Config().scoring
    assert build_config({"window_combination": "min", "window_hop": 1}).scoring.window_combination == "min"


def test_field_names_are_unique_across_sections() -> None:
    names = [spec.name for spec in config_fields()]
    assert len(names) == len(set(names))
    assert not set(names) & set(RETIRED)


def test_v1_and_v2_are_the_published_recipes() -> None:
    v1, v2 = read("v1.yaml"), read("v2.yaml")
    assert v1 == Config()
    changed = {name: value for name, value in v2.to_flat().items() if value != v1.to_flat()[name]}
    assert changed == {
        "recipe": "v2",
        "monitor": "val_loss",
        "patience": 10,
        "validation": "dev",
        "validation_rawboost": True,
    }


def test_typed_value_wins_over_yaml_which_wins_over_default(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("lr: 1e-5\nbatch_size: 10\n")
    config = build_config({**read_config_values(path), "batch_size": "20"})
    assert config.optimizer.lr == 1e-5
    assert config.training.batch_size == 20
    assert config.training.seed == 1234


def test_seed_users_yaml_carries_over(tmp_path) -> None:
    path = tmp_path / "train_df.yaml"
    path.write_text(
        "batch_size: 5\nnum_epochs: 50\nlr: 0.000001\nweight_decay: 0.0001\nseed: 1234\nalgo: 3\nN_f: 5\nnBands: 5\n"
    )
    assert build_config(read_config_values(path)) == Config()


@pytest.mark.parametrize("name", sorted(RETIRED))
def test_retired_option_says_what_to_use_instead(tmp_path, name: str) -> None:
    path = tmp_path / "old.yaml"
    path.write_text(f"{name}: 1\n")
    with pytest.raises(ValueError, match=f"old.yaml: {name} ") as caught:
        read_config_values(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rate": 1}, "learning_rate"),
        ({"batchsize": 1}, "did you mean batch_size"),
        ({"lr": "fast"}, "lr: found 'fast'"),
        ({"lr": "nan"}, "lr: found 'nan'"),
        ({"batch_size": 2.5}, "batch_size: found 2.5, "),
        ({"batch_size": True}, "batch_size: found True, "),
        ({"batch_size": "0"}, "batch_size: found 0, expected .*1"),
        ({"algo": 9}, "algo: found 9, expected .*0 to 8"),
        ({"monitor": "loss"}, "monitor: found 'loss', expected one of train_loss, val_loss"),
        ({"monitor": "val_loss"}, "monitor: .*validation"),
        ({"validation_rawboost": "true"}, "validation_rawboost: .*validation"),
        ({"random_crop": "maybe"}, "random_crop: found 'maybe'"),
        ({"loss_weights": "0.5"}, "loss_weights: found '0.5', expected 2"),
        ({"loss_weights": [0.1, -1]}, "loss_weights"),
        ({"recipe": "v1.1"}, "recipe: found v1.1, "),
        ({"patience": "inf"}, "patience: found 'inf'"),
        ({"recipe": 1}, "recipe: found 1, "),
        ({"minF": 9000}, "minF: found 9000.0, expected .*maxF.* 8000"),
    ],
)
def test_bad_value_is_named_with_what_was_expected(values, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_config(values)


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words", "a: [1,\n"])
def test_file_that_is_no_mapping_is_named(tmp_path, text: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="broken.yaml") as caught:
        read_config_values(path)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named_with_where_it_was_looked_for(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.yaml"):
        read_config_values(tmp_path / "nowhere.yaml")


def test_flat_form_builds_the_same_configuration() -> None:
    typed = {"loss_weights": "0.2, 0.8", "lr": "1e-3", "num_workers": "0"}
    config = build_config({**read_config_values(CONFIGS / "v2.yaml"), **typed})
    assert build_config(config.to_flat()) == config


def test_configuration_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().training.seed = 1  # type: ignore[misc]
