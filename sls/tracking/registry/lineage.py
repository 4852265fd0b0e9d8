"""Where a checkpoint comes from and what was made of it: read from the store once, and told by its runs and versions.

The descriptions of its runs lead to its other runs and its versions. The tags of its versions say how it was
evaluated, and their description, the `model_card`, tells both.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from sls.tracking.offline.server_calls import is_refusal
from sls.tracking.run import one_line, run_link
from sls.tracking.store import (
    REGISTERED_MODEL_NAME,
    find_known_run,
    find_runs,
    find_versions,
    place_in_order,
    tagged,
)
from sls.tracking.tags import (
    CHECKPOINT_TAG,
    CORPUS_TAG,
    EER_ENDING,
    KEY_ENDING,
    NOT_COMPARABLE_TAG,
    NOTE_TAG,
    SCORE_RUN_TAG,
    evaluated_place,
)

MAX_LINKS = 8
"""Of each sort; a description has its limit."""

logger = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where an EER was measured; one of one place does not take that of another."""

    corpus: str
    track: str
    subset: str
    precision: str
    """Of the scores, where that is not fp32."""


@dataclass(frozen=True)
class Lineage:
    """What the tracking store knows of a checkpoint."""

    model_id: str = ""
    """The checkpoint's LoggedModel."""
    origin: Run | None = None
    """The run that trained or imported it; a deleted one too."""
    runs: Sequence[Run] = ()
    """Those that scored with it, evaluated it or both, the oldest first; those under way too, failed ones not."""

    @property
    def active_origin(self) -> Run | None:
        """The origin, unless it is deleted: then nothing can be written on it, and no link leads there."""
        is_active = self.origin is not None and self.origin.info.lifecycle_stage == LifecycleStage.ACTIVE
        return self.origin if is_active else None

    @property
    def is_imported(self) -> bool:
        """Whether others trained it."""
        return self.origin is not None and self.origin.data.tags.get("kind") == "import_checkpoint"

    @property
    def train_corpus(self) -> str:
        """The corpus that it was trained on; empty where the store does not know it."""
        return self.origin.data.tags.get(CORPUS_TAG, "") if self.origin else ""

    def scoring_of(self, evaluation: Run) -> Run | None:
        """Returns the other run that made the scores of an evaluation, if one did: not a file, nor itself."""
        score_run_id, own_id = evaluation.data.tags.get(SCORE_RUN_TAG, ""), evaluation.info.run_id
        return next((run for run in self.runs if run.info.run_id == score_run_id != own_id), None)

    def newest_evaluations(self) -> dict[Place, Run]:
        """Returns the newest evaluation of each place, in order of the places.

        Those of some of the trials, of windows, or calibrated are left out. An evaluation under way counts once it
        has its EER, since the card is renewed before it ends.
        """
        newest = {}
        for run in self.runs:
            tags, track = run.data.tags, run.data.tags.get("track", "")
            subset, precision = tags.get("subset", ""), tags.get("precision", "").replace("fp32", "")
            is_of_a_subset = tags.get(NOT_COMPARABLE_TAG, "") in ("", f"subset {subset}")
            if f"{track}/eer_percent" in run.data.metrics and is_of_a_subset:
                newest[Place(tags.get(CORPUS_TAG, ""), track, subset, precision)] = run
        return dict(sorted(newest.items(), key=lambda item: item[0]))

    def eer_tags(self) -> dict[str, str]:
        """Returns the version tags for the newest evaluation of each track: its EER, and what that rests on.

        Evaluations that do not compare with those of other versions, such as of another subset, are left out.
        """
        tags = {}
        for place, run in self.newest_evaluations().items():
            if NOT_COMPARABLE_TAG in run.data.tags:
                continue
            name = evaluated_place(place.corpus, place.track, place.precision)
            tags[name + EER_ENDING] = f"{run.data.metrics[f'{place.track}/eer_percent']:.4f}"
            if "key_sha256" in run.data.tags:
                tags[name + KEY_ENDING] = run.data.tags["key_sha256"]
        return tags


def read_lineage(client: MlflowClient, checkpoint_model_id: str, train_run_id: str) -> Lineage:
    """Reads what is known of a checkpoint: of one without a LoggedModel, no run."""
    runs: list[Run] = []
    if checkpoint_model_id:
        found = sorted(find_runs(client, tagged(model_id=checkpoint_model_id)), key=place_in_order)
        known = [run for run in found if run.info.status in ("FINISHED", "RUNNING")]
        runs = [run for run in known if run.data.tags.get("kind") in ("score", "evaluate")]
    return Lineage(checkpoint_model_id, find_known_run(client, train_run_id), runs)


@contextmanager
def refusals_warn(trouble: str) -> Iterator[None]:
    """Warns of what the store refuses in a `with` block; raises what it may take another time, as MlflowException."""
    try:
        yield
    except MlflowException as error:
        if not is_refusal(error) and error.error_code != "PERMISSION_DENIED":
            raise
        logger.warning("%s: %s", trouble, one_line(error))


def make_section(name: str, text: str) -> str:
    """Returns a section of a description: it is written anew, and what people write around it stays."""
    return f"<!-- {name} -->\n{text}\n<!-- /{name} -->"


def renew_section(description: str, name: str, text: str) -> str | None:
    """Returns a description with a section written anew, or None where it has no such section."""
    pattern = f"<!-- {re.escape(name)} -->.*?<!-- /{re.escape(name)} -->"
    renewed, count = re.subn(pattern, lambda _: make_section(name, text), description, flags=re.DOTALL)
    return renewed if count else None


def link_checkpoint(client: MlflowClient, lineage: Lineage) -> None:
    """Writes into each run of a checkpoint where its training, scores, evaluations and versions are.

    The description of its training names all versions of its epochs. Nothing is written of a checkpoint without a
    LoggedModel. Descriptions do not decide how the caller's run ends: what the store refuses is a warning.
    """
    if lineage.model_id:
        with refusals_warn(f"The runs of {lineage.model_id} could not be linked"):
            _link(client, lineage)


def _link(client: MlflowClient, lineage: Lineage) -> None:
    versions, origin = find_versions(client), lineage.active_origin
    own = _version_links(item for item in versions if item.tags.get(CHECKPOINT_TAG) == lineage.model_id)
    for run in lineage.runs:
        links = {
            "Scores": _run_links([lineage.scoring_of(run)]),
            "Import" if lineage.is_imported else "Training": _run_links([origin]),
            "Evaluation": _run_links([item for item in lineage.runs if lineage.scoring_of(item) is run]),
            "Version": own,
        }
        _write(client, run, links)
    if origin:
        of_training = (item for item in versions if item.tags.get("run_id") == origin.info.run_id)
        _write(client, origin, {"Version": _version_links(of_training)})


def _run_links(runs: Sequence[Run | None]) -> list[str]:
    return [run_link(run) for run in runs[-MAX_LINKS:] if run]


def _version_links(versions: Iterable[ModelVersion]) -> list[str]:
    newest = sorted(versions, key=lambda item: int(item.version))[-MAX_LINKS:]
    return [
        f"[{REGISTERED_MODEL_NAME} {item.version}](#/models/{REGISTERED_MODEL_NAME}/versions/{item.version})"
        f" (epoch {item.tags.get('epoch') or 'unknown'})"
        for item in newest
    ]


def _write(client: MlflowClient, run: Run, links: dict[str, list[str]]) -> None:
    text = "  \n".join(f"{name}: {', '.join(found)}" for name, found in links.items() if found)
    note = run.data.tags.get(NOTE_TAG, "")
    renewed = renew_section(note, "lineage", text)
    # A section whose last version was deleted is emptied; an empty one is not begun.
    if renewed is None and text:
        renewed = f"{note}\n\n{make_section('lineage', text)}".strip()
    if renewed is not None and renewed != note:
        client.set_tag(run.info.run_id, NOTE_TAG, renewed)
