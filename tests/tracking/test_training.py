import pytest

from sls.config import DataConfig
from sls.config_file import build_config
from sls.data.corpus import open_corpus
from sls.tracking.runs import tracked_run
from sls.tracking.training import load_trials


@pytest.mark.parametrize("is_augmented", [False, True])
def test_validation_trials_are_never_cropped_at_random_and_augmented_only_if_set(
    store, small_corpus, is_augmented: bool
) -> None:
    config = build_config(
        {
            "random_crop": True,
            "validation": "dev",
            "validation_rawboost": is_augmented,
            "data_root": str(small_corpus),
        }
    )
    corpus = open_corpus(DataConfig(data_root=str(small_corpus)))
    with tracked_run("train") as run:
        train, _ = load_trials(run, corpus, config, "train", "training")
        validation, data = load_trials(run, corpus, config, "dev", "validation")
    assert train.audio.random_crop
    assert train.rawboost == config.rawboost
    assert not validation.audio.random_crop
    assert validation.rawboost == (config.rawboost if is_augmented else None)
    assert data.name == "demo-dev"
