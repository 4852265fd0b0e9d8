"""The model card: what a registered version is, how well it does, and what it is for, as Markdown."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run

from sls.data.corpora.corpus import DEMO_CORPUS
from sls.metrics.calibration import Calibration
from sls.tracking.registry.checkpoints import ModelSource
from sls.tracking.run import run_link
from sls.tracking.store import find_active_run, find_known_run, find_runs_of_checkpoint
from sls.tracking.tags import NOT_COMPARABLE_TAG, SCORE_RUN_TAG

MAX_CARD_LENGTH = 5_000
"""What MLflow's databases hold of a version's description."""
MAX_TABLE_LENGTH = 2_800
"""Of that, what the rows of evaluations may take."""

SYNTHETIC_LINE = (
    "**Synthetic corpus: this version was trained or evaluated on the made demo corpus. Its figures say nothing "
    "about real deepfakes, and it must not be used to judge recordings.**"
)
INTENDED_USE = """### Intended use and limits
- For: research on speech anti-spoofing, and as one sign among others when a recording is examined. \
Not for: the only ground of a decision about a person.
- It hears the first {heard} of a recording, as one channel (stereo is averaged, shorter recordings are repeated); \
what comes later is not heard.
- It knows the attacks, languages and channels of its training data. On others its error rate is higher, often \
by much: evaluate it on recordings like yours before use.
- A score is no probability and has no natural threshold. {calibration}"""
CALIBRATED = "This version is served with a calibration; it holds for data like those on which it was fitted."
UNCALIBRATED = "This version has no calibration, so that it is served without a decision."

# Between these lines the card is written anew when a version is evaluated; the rest is left to its readers.
_BEGIN, _END = "<!-- evaluations -->", "<!-- /evaluations -->"


def write_card(
    client: MlflowClient, source: ModelSource, recipe: str, heard_s: float, calibration: Calibration | None
) -> str:
    """Returns the card of a checkpoint, at most as long as a description may be.

    Args:
        client: the tracking store.
        source: the checkpoint.
        recipe: name of its recipe.
        heard_s: seconds of a recording that it hears.
        calibration: with which it is served, if with one.
    """
    origin = find_known_run(client, source.train_run_id)
    parts = [
        f"Recipe {recipe or 'unknown'}, epoch {source.epoch or 'unknown'}.",
        _describe_origin(origin),
        evaluation_section(client, source.model_id, _corpus(origin)),
        INTENDED_USE.format(heard=f"{heard_s:.2f} s", calibration=_describe_calibration(calibration)),
    ]
    return "\n\n".join(parts)[:MAX_CARD_LENGTH]


def renew_evaluations(client: MlflowClient, card: str, checkpoint_model_id: str, train_run_id: str) -> str:
    """Returns a card with its evaluations as they are now; what people wrote around them stays."""
    origin = find_known_run(client, train_run_id)
    section = evaluation_section(client, checkpoint_model_id, _corpus(origin))
    pattern = f"{re.escape(_BEGIN)}.*{re.escape(_END)}"
    renewed = re.sub(pattern, lambda _: section, card, flags=re.DOTALL)
    return renewed if len(renewed) <= MAX_CARD_LENGTH else card


def evaluation_section(client: MlflowClient, checkpoint_model_id: str, train_corpus: str = "") -> str:
    """Returns the table of EERs by track with 95 % intervals, and says so where the corpus is synthetic."""
    runs = newest_evaluations(client, checkpoint_model_id)
    corpora = {train_corpus, *(_corpus(run) for run in runs)}
    lines = [_BEGIN]
    if DEMO_CORPUS in corpora:
        lines += [SYNTHETIC_LINE, ""]
    lines += ["### EER by track"]
    rows = _rows(client, runs)
    if runs:
        lines += [
            "",
            "| corpus | track | subset | EER % | 95 % over trials | 95 % over speakers and attacks | from |",
            "|---|---|---|---|---|---|---|",
            *rows,
        ]
        if len(runs) > len(rows):
            lines += ["", f"And {len(runs) - len(rows)} more, in the runs of kind evaluate."]
    else:
        lines.append("Not evaluated yet.")
    return "\n".join([*lines, _END])


def newest_evaluations(client: MlflowClient, checkpoint_model_id: str) -> list[Run]:
    """Returns the newest evaluation of a checkpoint for each corpus, track, subset and precision, in that order.

    Those of some of the trials, of windows, or calibrated are left out. An evaluation under way counts once it has
    its EER, since it renews the card before it ends.
    """
    if not checkpoint_model_id:
        return []
    newest = {
        (_corpus(run), run.data.tags["track"], run.data.tags.get("subset", ""), _precision(run)): run
        for run in find_runs_of_checkpoint(client, "evaluate", checkpoint_model_id)
        if _eer_name(run) in run.data.metrics
        and run.data.tags.get(NOT_COMPARABLE_TAG, "") in ("", f"subset {run.data.tags.get('subset')}")
    }
    return [newest[place] for place in sorted(newest)]


def find_train_corpus(client: MlflowClient, train_run_id: str) -> str:
    """Returns the corpus that a checkpoint was trained on; empty where the store does not know it."""
    return _corpus(find_known_run(client, train_run_id))


def _describe_calibration(calibration: Calibration | None) -> str:
    if calibration is None:
        return UNCALIBRATED
    if calibration.score_range is None:
        return CALIBRATED
    low, high = calibration.score_range
    return f"{CALIBRATED} Their scores were {low:g} to {high:g}."


def _describe_origin(run: Run | None) -> str:
    if run is None:
        return "Origin unknown."
    is_deleted = run.info.lifecycle_stage != LifecycleStage.ACTIVE
    name = f"{run.info.run_name} (deleted)" if is_deleted else run_link(run)
    tags = run.data.tags
    if tags.get("kind") == "import_checkpoint":
        source, licence = (tags.get(name, "unknown") for name in ("source", "licence"))
        return f"Imported from {source}, licence {licence}: {name}"
    data = [_describe_dataset(item) for item in (run.inputs.dataset_inputs if run.inputs else ())]
    lines = [f"Training: {name}", f"Corpus: {_corpus(run) or 'unknown'}", *data]
    return "  \n".join(lines)


def _describe_dataset(given: object) -> str:
    dataset, tags = given.dataset, given.tags  # type: ignore[attr-defined]
    context = next((tag.value for tag in tags if tag.key == "mlflow.data.context"), "data")
    try:
        profile = json.loads(dataset.profile or "{}")
    except ValueError:
        profile = {}
    counts = ", ".join(f"{value} {name}" for name, value in profile.items() if isinstance(value, int))
    return f"{context.capitalize()}: {dataset.name}{f' ({counts})' if counts else ''}"


def _rows(client: MlflowClient, runs: Sequence[Run]) -> list[str]:
    """Returns a row for each evaluation, as many as fit."""
    rows: list[str] = []
    for run in runs:
        # Those of a file were made by no run.
        row = _row(run, find_active_run(client, run.data.tags.get(SCORE_RUN_TAG, "")))
        if sum(map(len, rows)) + len(row) > MAX_TABLE_LENGTH:
            break
        rows.append(row)
    return rows


def _row(run: Run, scoring: Run | None) -> str:
    name = _eer_name(run)
    metrics, tags = run.data.metrics, run.data.tags
    cells: Sequence[str] = (
        _corpus(run),
        tags["track"],
        f"{tags.get('subset', '')}{f', {_precision(run)}' if _precision(run) else ''}",
        f"{metrics[name]:.2f}",
        _interval(metrics, name),
        _interval(metrics, f"{name}_clustered"),
        ", ".join(run_link(item) for item in (scoring, run) if item),
    )
    return f"| {' | '.join(cells)} |"


def _interval(metrics: dict[str, float], name: str) -> str:
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    return "" if low is None or high is None else f"{low:.2f} to {high:.2f}"


def _eer_name(run: Run) -> str:
    return f"{run.data.tags.get('track', '')}/eer_percent"


def _precision(run: Run) -> str:
    """Returns in what precision was scored, where that is not fp32."""
    return run.data.tags.get("precision", "").replace("fp32", "")


def _corpus(run: Run | None) -> str:
    return run.data.tags.get("corpus", "") if run is not None else ""
