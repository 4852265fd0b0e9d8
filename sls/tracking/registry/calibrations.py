"""Calibrations as artifacts of evaluation runs: found, fitted, and held to the scores they are for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient

from sls.data.tables.score_files import JoinedScores
from sls.engine.evaluation.calibration import fit_calibration, save_calibration
from sls.files import check_is_file
from sls.tracking.artifacts import download
from sls.tracking.database import require_place
from sls.tracking.run import TrackedRun
from sls.tracking.store import get_run, is_run_id
from sls.tracking.tags import MODEL_ID_TAG

CALIBRATION_FILE = "calibration.json"

# What of a scoring run decides over the scale of its scores.
_SCALE_TAGS = (MODEL_ID_TAG, "window_hop", "window_combination")


@dataclass(frozen=True)
class FittedCalibration:
    """A calibration file, and the evaluation run that fitted it, if one did."""

    name: str
    """What the user named: a file, or the id of the run."""
    path: Path
    tags: Mapping[str, str] = field(default_factory=dict)
    """Of the run."""

    def check(self, tags: Mapping[str, str], scores_sha256: str = "", subset: str = "all") -> None:
        """Checks that scores are on the scale of those that it was fitted on, and others, as far as is known.

        The tags are those of the scoring run, or what is known of the model; the subset is that of the scores to
        which it is to be applied.

        Raises:
            ValueError: they are of another model, of windows where these are not, or the very same scores.
        """
        for name in _SCALE_TAGS:
            found, expected = self.tags.get(name, ""), tags.get(name, "")
            if found and expected and found != expected:
                raise ValueError(
                    f"calibration: run {self.name} was fitted on scores of {name} {found}, expected {expected}"
                )
        own_subset = self.tags.get("subset", "all")
        has_common_trials = subset == own_subset or "all" in (subset, own_subset)
        if scores_sha256 == self.tags.get("scores_sha256") and has_common_trials:
            raise ValueError(
                f"calibration: run {self.name} was fitted on these very scores, expected one fitted on others"
            )


def find_calibration(client: MlflowClient, name: str, directory: Path) -> FittedCalibration | None:
    """Finds a calibration: a JSON file, or the evaluation run that fitted it; None for an empty name.

    That of a run may be downloaded into the directory, for a caller that removes it after use.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no regular file, or the run fitted none.
    """
    if not name:
        return None
    if not is_run_id(name):
        check_is_file(Path(name), "calibration", "a JSON file or the id of the evaluation run that fitted it")
        return FittedCalibration(name, Path(name))
    run = get_run(client, name, "calibration")
    require_place(run.info.artifact_uri)
    if CALIBRATION_FILE not in {item.path for item in client.list_artifacts(run.info.run_id)}:
        raise ValueError(f"calibration: run {name} fitted none; evaluate with -P fit_calibration=logistic")
    uri = f"runs:/{run.info.run_id}/{CALIBRATION_FILE}"
    return FittedCalibration(name, download(uri, directory), run.data.tags)


def keep_calibration(run: TrackedRun, joined: JoinedScores, method: str, name: str = "") -> None:
    """Fits and keeps a calibration of trials of that name; it is not applied to the scores of the fit."""
    with run.artifacts() as directory:
        save_calibration(directory / CALIBRATION_FILE, fit_calibration(joined, method, name))
