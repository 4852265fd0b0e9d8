"""The model card: what a registered version is, how well it does, and what it is for, as Markdown."""

import json
from collections.abc import Sequence

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Run

from sls.data.corpora.corpus import DEMO_CORPUS
from sls.metrics.calibration import Calibration, describe_calibration
from sls.tracking.registry.lineage import Lineage, Place, make_section, renew_section
from sls.tracking.run import escape_markdown, run_link
from sls.tracking.store import REGISTERED_MODEL_NAME, find_versions
from sls.tracking.tags import CHECKPOINT_TAG, CHOSEN_BY_TAG

MAX_CARD_LENGTH = 5_000
"""What MLflow's databases hold of a version's description."""
MAX_TOLD = 200
"""Characters of what a user says of a checkpoint that the card repeats; the run and the version have it all."""
EVALUATIONS = "evaluations"
"""The section of a card that is written anew with each evaluation."""

SYNTHETIC_LINE = (
    "**Synthetic corpus: this version was trained or evaluated on the made demo corpus. Its figures say nothing "
    "about real deepfakes, and it must not be used to judge recordings.**"
)
LEFT_OUT = "Evaluations not shown here, in the runs of kind evaluate:"
TABLE_HEAD = """
| corpus | track | subset | EER % | 95 % over trials | 95 % over speakers and attacks | from |
|---|---|---|---|---|---|---|"""
INTENDED_USE = """### Intended use and limits
- For: research on speech anti-spoofing, and as one sign among others when a recording is examined. \
Not for: the only ground of a decision about a person.
- It hears the first {heard_s:.2f} s of a recording, as one channel (stereo is averaged, shorter recordings are \
repeated); what comes later is not heard.
- It knows the attacks, languages and channels of its training data. On others its error rate is higher, often \
by much: evaluate it on recordings like yours before use.
- A score is no probability and has no natural threshold. {calibration}"""
CALIBRATED = "This version is served with a calibration; it holds for data like those on which it was fitted."
UNCALIBRATED = "This version has no calibration, so that it is served without a decision."


def write_card(
    lineage: Lineage, recipe: str, epoch: str, heard_s: float, calibration: Calibration | None
) -> str:
    """Returns the card of a checkpoint, at most as long as a description may be."""
    parts = [
        f"Recipe {_tell(recipe) or 'unknown'}, epoch {_tell(epoch) or 'unknown'}.",
        _describe_origin(lineage),
        make_section(EVALUATIONS, ""),
        INTENDED_USE.format(heard_s=heard_s, calibration=_describe_calibration(calibration, lineage)),
    ]
    return _renew(lineage, "\n\n".join(parts)) or ""


def note_evaluations(client: MlflowClient, lineage: Lineage) -> None:
    """Writes what was evaluated of a checkpoint on each registered version of it, and into its card."""
    for version in find_versions(client):
        if version.tags.get(CHECKPOINT_TAG) != lineage.model_id:
            continue
        for name, value in lineage.eer_tags().items():
            client.set_model_version_tag(REGISTERED_MODEL_NAME, version.version, name, value)
        card = version.description or ""
        renewed = _renew(lineage, card)
        if renewed is not None and renewed != card and len(renewed) <= MAX_CARD_LENGTH:
            client.update_model_version(REGISTERED_MODEL_NAME, version.version, renewed)


def _renew(lineage: Lineage, card: str) -> str | None:
    """Returns a card with its section of evaluations written anew, within its limit; None where it has no section."""
    bare = renew_section(card, EVALUATIONS, "")
    if bare is None:
        return None
    return renew_section(bare, EVALUATIONS, _describe_evaluations(lineage, MAX_CARD_LENGTH - len(bare)))


def _tell(text: str) -> str:
    """Returns what a user said, as Markdown that shows no more than its beginning."""
    return escape_markdown(text if len(text) <= MAX_TOLD else f"{text[:MAX_TOLD]}...[cut]")


def _describe_calibration(calibration: Calibration | None, lineage: Lineage) -> str:
    if calibration is None:
        return UNCALIBRATED
    told = f"{CALIBRATED} It is {_tell(describe_calibration(calibration))}."
    chosen_by = lineage.origin.data.tags.get(CHOSEN_BY_TAG, "") if lineage.origin else ""
    if calibration.fitted_on.split(" ")[0] == "dev" and "val/" in chosen_by:
        told += f" The epoch was chosen by these trials too ({chosen_by}): they are known to it."
    return told


def _describe_origin(lineage: Lineage) -> str:
    run = lineage.origin
    if run is None:
        return "Origin unknown."
    name = run_link(run) if lineage.active_origin else f"{_tell(run.info.run_name or '')} (deleted)"
    if lineage.is_imported:
        source, licence = (_tell(run.data.tags.get(name, "unknown")) for name in ("source", "licence"))
        return f"Imported from {source}, licence {licence}: {name}"
    data = [_describe_dataset(item) for item in (run.inputs.dataset_inputs if run.inputs else ())]
    return "  \n".join([f"Training: {name}", f"Corpus: {_tell(lineage.train_corpus) or 'unknown'}", *data])


def _describe_dataset(given: DatasetInput) -> str:
    context = next((tag.value for tag in given.tags if tag.key == "mlflow.data.context"), "data")
    try:
        profile = json.loads(given.dataset.profile or "{}")
    except ValueError:
        profile = {}
    counts = ", ".join(f"{value} {_tell(name)}" for name, value in profile.items() if isinstance(value, int))
    return f"{_tell(context.capitalize())}: {_tell(given.dataset.name)}{f' ({counts})' if counts else ''}"


def _describe_evaluations(lineage: Lineage, room: int) -> str:
    """Returns the table of EERs by track with 95 % intervals, and says so where the corpus is synthetic.

    Rows that do not fit into the room, in characters, are counted.
    """
    newest = lineage.newest_evaluations()
    is_synthetic = DEMO_CORPUS in {lineage.train_corpus, *(place.corpus for place in newest)}
    lines = [SYNTHETIC_LINE, ""] if is_synthetic else []
    lines.append("### EER by track")
    if not newest:
        return "\n".join([*lines, "Not evaluated yet."])
    rows = [_row(place, run, lineage.scoring_of(run)) for place, run in newest.items()]
    for shown in range(len(rows), -1, -1):
        left_out = [] if shown == len(rows) else ["", f"{LEFT_OUT} {len(rows) - shown}"]
        text = "\n".join([*lines, *([TABLE_HEAD, *rows[:shown]] if shown else []), *left_out])
        if len(text) <= room:
            return text
    return f"{LEFT_OUT} {len(rows)}"


def _row(place: Place, run: Run, scoring: Run | None) -> str:
    metrics, name = run.data.metrics, f"{place.track}/eer_percent"
    cells: Sequence[str] = (
        _tell(place.corpus),
        _tell(place.track),
        _tell(", ".join(filter(None, [place.subset, place.precision]))),
        f"{metrics[name]:.2f}",
        _interval(metrics, name),
        _interval(metrics, f"{name}_clustered"),
        ", ".join(run_link(item) for item in (scoring, run) if item),
    )
    return f"| {' | '.join(cells)} |"


def _interval(metrics: dict[str, float], name: str) -> str:
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    return "" if low is None or high is None else f"{low:.2f} to {high:.2f}"
