"""A calibration is applied to scores on the scale of those that it was fitted on, and to others than those."""

from pathlib import Path

import pytest

from sls.engine.evaluation.calibration import fit_calibration, load_calibration
from sls.tracking.active_run import tracked_run
from sls.tracking.registry.calibrations import FittedCalibration, find_calibration, keep_calibration
from sls.tracking.store import connect
from tests.engine.evaluation.keys import make_corpus

FITTED = FittedCalibration(
    "0" * 32,
    Path("calibration.json"),
    {
        "model_id": "m-1",
        "window_hop": "0",
        "window_combination": "none",
        "scores_sha256": "abc",
        "subset": "progress",
    },
)


@pytest.mark.parametrize(
    "tags", [{}, {"model_id": "m-1"}, {"model_id": "m-1", "window_hop": "0", "window_combination": "none"}]
)
def test_scores_of_the_same_kind_are_accepted(tags: dict[str, str]) -> None:
    FITTED.check(tags, "def")
    FittedCalibration("mine.json", Path("mine.json")).check(tags, "abc")


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"model_id": "m-2"}, ".*model_id m-1, expected m-2"),
        ({"model_id": "m-1", "window_hop": "16000"}, ".*window_hop 0, expected 16000"),
        ({"window_combination": "max"}, ".*window_combination none, expected max"),
    ],
)
def test_other_scores_are_refused(tags: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=f"calibration: run 0+ {message}"):
        FITTED.check(tags, "def")


def test_the_scores_that_it_was_fitted_on_are_refused() -> None:
    with pytest.raises(ValueError, match="these very scores, expected"):
        FITTED.check({"model_id": "m-1"}, "abc", "progress")
    with pytest.raises(ValueError, match="these very scores"):
        FITTED.check({"model_id": "m-1"}, "abc")
    FITTED.check({"model_id": "m-1"}, "abc", "eval")


@pytest.mark.parametrize("subset", [{}, {"subset": "all"}])
def test_scores_of_any_subset_are_among_all_that_it_was_fitted_on(subset: dict[str, str]) -> None:
    fitted = FittedCalibration("0" * 32, Path("calibration.json"), {"scores_sha256": "abc", **subset})
    with pytest.raises(ValueError, match="these very scores"):
        fitted.check({}, "abc", "eval")
    fitted.check({}, "def", "eval")


def test_a_file_goes_by_its_name(store, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text("{}")
    assert find_calibration(connect(), str(path), tmp_path) == FittedCalibration(str(path), path)
    assert find_calibration(connect(), "", tmp_path) is None


def test_a_name_that_is_neither_file_nor_run_is_refused(store, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nonsense"):
        find_calibration(connect(), "nonsense", tmp_path)
    with pytest.raises(ValueError, match="^calibration: .*run 0{32}$"):
        find_calibration(connect(), "0" * 32, tmp_path)


def test_what_a_run_fitted_is_found_by_its_id(store, tmp_path: Path) -> None:
    with tracked_run("evaluate", tags={"subset": "eval"}) as run:
        keep_calibration(run, make_corpus(), "logistic")
    found = find_calibration(connect(), run.run_id, tmp_path / "place")
    assert found is not None
    assert (found.name, found.tags["subset"]) == (run.run_id, "eval")
    assert found.path.parent == tmp_path / "place"
    assert load_calibration(found.path) == fit_calibration(make_corpus(), "logistic")
    with tracked_run("evaluate") as run:
        pass
    with pytest.raises(ValueError, match=f"^calibration: run {run.run_id} fitted none"):
        find_calibration(connect(), run.run_id, tmp_path)
