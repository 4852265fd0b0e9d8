"""The scores that an evaluation or a comparison takes: files, or what scoring runs have left."""

import logging
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run

from sls.engine.evaluation.comparison import SeedOf
from sls.engine.scoring.settings import DEGRADED, SETTINGS
from sls.files import check_is_file
from sls.quotation import make_visible
from sls.tracking.artifacts import download
from sls.tracking.evaluation.trainings import find_seed, name_trainings
from sls.tracking.names import check_system
from sls.tracking.registry.checkpoints import find_model, tell_epoch
from sls.tracking.scoring.score_file import HAS_SCORES, SCORES_DIRECTORY
from sls.tracking.store import FINISHED, NEWEST_FIRST, find_first_run, get_run, is_run_id, tagged
from sls.tracking.tags import CONDITION_TAG, EPOCHS_TAG, MODEL_TAGS, TRAIN_RUN_TAG

logger = logging.getLogger(__name__)

# Tags that an evaluation run takes over from the scoring run, so that both can be grouped and walked alike.
LINEAGE_TAGS = (*SETTINGS, *DEGRADED, *MODEL_TAGS, "checkpoint_sha256")


OWN_NAME = "system"
"""Of the scores of several tracks that a user gives no name."""


@dataclass(frozen=True)
class ScoreSource:
    """A score file, and the scoring run that made it, if one did."""

    path: Path
    run_id: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    """Lineage, from the scoring run."""
    seed_of: SeedOf | None = None
    """Of what it is one training among others by other seeds."""

    @property
    def name(self) -> str:
        """Where the scores are: a file, or that of a run."""
        return f"runs:/{self.run_id}/{SCORES_DIRECTORY}/{self.path.name}" if self.run_id else str(self.path)

    @property
    def system(self) -> str:
        """What to call the system in a report."""
        return make_visible(f"{_name_system(self.tags) or self.path.stem} {self.condition}".strip())

    @property
    def condition(self) -> str:
        """The name of what degraded the recordings; empty where nothing did."""
        return self.tags.get(CONDITION_TAG, "")


def find_scores(
    client: MlflowClient, scores: str, corpus: str, track: str, directory: Path, model: str = ""
) -> ScoreSource:
    """Finds the score file that a user means.

    Args:
        client: The tracking store.
        scores: A file, the id of a scoring run, or empty for the newest finished scoring run of the track,
            but for those of degraded recordings, and those that a chart of epochs left behind.
        corpus: The corpus that the track is of.
        track: The track.
        directory: Where to download the scores of a run.
        model: For an empty `scores`: only runs of this model, those of a chart too.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no regular file, no such run, or none for that track of that corpus; or both `scores` and
            `model`.
    """
    if scores and model:
        raise ValueError(f"model: found {model} beside scores {scores}, expected one of the two")
    if scores and (Path(scores).is_file() or not is_run_id(scores)):
        check_is_file(Path(scores), "scores", "a score file or the id of a scoring run")
        return ScoreSource(Path(scores))
    if not scores:
        return _from_run(_newest_scoring_run(client, corpus, track, model), directory)
    scored = get_run(client, scores, "scores")
    of_corpus = scored.data.tags.get("corpus")
    # A list of one's own (protocol, audio_dir) has another name, and is evaluated on whatever the user says.
    if scored.data.tags.get("track") == track and of_corpus not in (None, corpus):
        raise ValueError(
            f"scores: run {scores} scored {track} of corpus {of_corpus}, expected corpus {corpus}; "
            "give the data_root and tracks with which it was scored, or the score file (-P scores=FILE)"
        )
    return _from_run(scored, directory)


def find_systems(
    client: MlflowClient,
    corpus: str,
    track: str,
    scores: Sequence[str],
    models: Sequence[str],
    directory: Path,
    least: int = 2,
    studies: Sequence[str] | None = None,
) -> dict[str, ScoreSource]:
    """Finds the score files to compare, by the name of their system.

    Args as `find_scores`. Score files or scoring runs may be named: `baseline=scores.txt`; each model stands for its
    newest finished scoring run of the track, each study for its trainings (`NAME=RUN_ID` names their recipe). Unless
    `studies` is None, scores of one name are those of one recipe by several seeds: `v1=A,v1=B,v2=C`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: fewer systems, two of one name, a name without a file, or no such run.
    """
    found: dict[str, ScoreSource] = {}
    wanted = [(*_split_name(item), "") for item in scores] + [("", "", model) for model in models]
    wanted += [(name, "", model) for item in studies or () for name, model in name_trainings(client, item)]
    names = [name for name, _, _ in wanted]
    for number, (name, place, model) in enumerate(wanted):
        # Each in a folder of its own: the score files of two runs have one name.
        folder = directory / str(number)
        folder.mkdir()
        source = find_scores(client, place, corpus, track, folder, model)
        system = name or source.system
        if studies is not None and name and names.count(name) > 1:
            seed = find_seed(client, source.tags.get(TRAIN_RUN_TAG, ""))
            source = replace(source, seed_of=SeedOf(name, seed))
            system = f"{name} seed {seed}" if seed else f"{name} {names[: number + 1].count(name)}"
        _check_name(system, model or (f"{name}={place}" if name else place), found)
        found[system] = source
    if len(found) < least:
        raise ValueError(
            f"systems: found {len(found)}, expected {('one', 'two')[least - 1]} or more in scores or models"
        )
    return found


def _split_name(item: str) -> tuple[str, str]:
    """Returns what scores are called, if anything, and where they are."""
    name, place = item.split("=", 1) if "=" in item else ("", item)
    if not place:
        raise ValueError(f"scores: found {item}, expected NAME=FILE or NAME=RUN_ID")
    return name, place


def find_systems_by_track(
    client: MlflowClient,
    corpus: str,
    tracks: Sequence[str],
    scores: Sequence[str],
    models: Sequence[str],
    directory: Path,
) -> dict[str, dict[str, ScoreSource]]:
    """Finds the score files of systems on several tracks, by track and then by the name of their system.

    Args as `find_systems`. Score files and runs have their track, `LA=scores.txt` or `LA/baseline=scores.txt`; of one
    track it need not be named.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: what `find_systems` raises, another track, or a system that is not there on every track.
    """
    items: dict[str, list[str]] = {track: [] for track in tracks}
    for item in scores:
        head, _, place = item.partition("=")
        track, _, system = head.partition("/")
        if track in items and place:
            items[track].append(f"{system or OWN_NAME}={place}")
        elif len(items) == 1:
            items[tracks[0]].append(item)
        else:
            raise ValueError(
                f"scores: found {item}, expected TRACK=FILE or TRACK/NAME=FILE with one of the tracks "
                f"{', '.join(tracks)}"
            )
    found = {}
    for number, track in enumerate(tracks):
        folder = directory / f"track {number}"
        folder.mkdir()
        found[track] = find_systems(client, corpus, track, items[track], models, folder, least=1)
        missing = set(found[tracks[0]]) ^ set(found[track])
        if missing:
            raise ValueError(
                f"scores: found {', '.join(sorted(missing))} on {tracks[0]} or on {track} alone, expected every "
                "system on every track"
            )
    return found


def _check_name(system: str, item: str, others: Container[str]) -> None:
    if re.fullmatch(r"[\w .:-]+", system) is None:
        raise ValueError(f"systems: found name {system}, expected letters, digits, _, - and .; use NAME=FILE")
    check_system(system, "systems")
    if system in others:
        raise ValueError(
            f"systems: {item} is the second system called {system}; name them: -P scores=NAME=FILE,..."
        )


def _name_system(tags: Mapping[str, str]) -> str:
    """Returns recipe and epoch, or else the model; empty where neither is known."""
    if "recipe" in tags:
        return f"{tags['recipe']} {tell_epoch(tags['epoch'])}" if "epoch" in tags else tags["recipe"]
    return tags.get("model", "")


def _newest_scoring_run(client: MlflowClient, corpus: str, track: str, model: str) -> Run:
    of_track = [tagged(track=track), HAS_SCORES, FINISHED]
    scored = [*of_track, tagged(corpus=corpus)]
    find_newest = partial(find_first_run, client, order_by=NEWEST_FIRST)
    # A chart scores every epoch, whichever last: its runs are not what somebody scored to evaluate it.
    wanted = f"tags.{EPOCHS_TAG} IS NULL"
    if model:
        # By checkpoint, since an alias, a version and a run's epoch may name the same one.
        named = find_model(client, model)
        wanted = tagged(model_id=named.model_id) if named.model_id else tagged(model=named.uri)
    newest = find_newest(*scored, wanted)
    if newest is not None:
        system, run_id = _name_system(newest.data.tags) or "unknown model", newest.info.run_id
        logger.info("evaluating the newest finished scoring of %s: %s (run %s)", track, system, run_id)
        return newest
    if not model and find_newest(*scored) is not None:
        raise ValueError(
            f"scores: the only finished scoring runs of track {track} in {mlflow.get_tracking_uri()} are of a chart "
            "of epochs; name a model (-P model=runs:/RUN_ID/epoch_N) or scores (-P scores=RUN_ID or FILE)"
        )
    of_model = f" of {model}" if model else ""
    other = find_newest(*of_track, wanted)
    elsewhere = f" (there are some of corpus {other.data.tags.get('corpus')})" if other else ""
    raise ValueError(
        f"scores: no finished scoring run of track {track} of corpus {corpus}{of_model}{elsewhere} in "
        f"{mlflow.get_tracking_uri()}; "
        f"score it first (mlflow run . -e score -P track={track}) or name a file (-P scores=FILE)"
    )


def _from_run(scored: Run, directory: Path) -> ScoreSource:
    run_id = scored.info.run_id
    uri = f"runs:/{run_id}/{SCORES_DIRECTORY}"
    held = download(uri, directory)
    files = sorted(path for path in held.iterdir() if path.suffix != ".json")
    if len(files) != 1:
        raise ValueError(f"scores: run {run_id} holds {len(files)} score files, expected one")
    tags = {name: scored.data.tags[name] for name in LINEAGE_TAGS if name in scored.data.tags}
    return ScoreSource(files[0], run_id, tags)
