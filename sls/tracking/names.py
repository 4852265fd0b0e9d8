"""Names of users that become names of metrics and tags: held to MLflow's rules before there is work to lose."""

from collections.abc import Sequence

from mlflow.utils.validation import (
    MAX_ENTITY_KEY_LENGTH,
    bad_character_message,
    path_not_unique,
    validate_param_and_metric_name,
)

from sls.config import MAX_NAME_LENGTH
from sls.data.corpora.corpus import Corpus
from sls.quotation import quote
from sls.tracking.tags import EVALUATED_BY, KEY_ENDING, evaluated_place

LONGEST_FIGURE = "eer_percent_clustered_high"
LONGEST_TRANSFER = " half 1/half_total_error_percent_by_min_dcf_threshold_of_ half 2"
"""Between the track on which it is measured and the track of the threshold."""
ANY_SYSTEM = "x" * MAX_NAME_LENGTH


def check_tracks(corpus: Corpus) -> None:
    """Raises ValueError where MLflow would refuse names of what is computed on the tracks of a corpus."""
    for track in corpus.tracks:
        place = evaluated_place(corpus.name, track, "bf16")
        _check(f"tracks: found the track {quote(track)}", f"{track}/{LONGEST_FIGURE}.{ANY_SYSTEM}")
        for tag in (EVALUATED_BY + place, place + KEY_ENDING, f"{place}/{LONGEST_FIGURE}"):
            _check(f"tracks: found the track {quote(track)} of corpus {quote(corpus.name)}", tag)


def check_system(system: str, parameter: str) -> None:
    """Raises ValueError where MLflow would refuse to record figures under the name of a system, or it is long."""
    found = f"{parameter}: found the name {quote(system)}"
    if len(system) > MAX_NAME_LENGTH:
        raise ValueError(f"{found}, expected {MAX_NAME_LENGTH} characters at most")
    _check(found, f"{LONGEST_FIGURE}.{system}")


def check_transfers(ends: Sequence[str], systems: Sequence[str]) -> None:
    """Raises ValueError where the names of tracks, or systems, are long for what thresholds cost on one another."""
    longest = max(ends, key=len)
    metric = f"{longest}{LONGEST_TRANSFER}{longest}.{max(systems, key=len)}"
    _check(f"track: found the name {quote(longest)}", metric)


def _check(found: str, key: str) -> None:
    if not validate_param_and_metric_name(key):
        raise ValueError(f"{found}, expected a name that MLflow takes. {bad_character_message()}")
    if path_not_unique(key):
        raise ValueError(f"{found}, expected a name that is no path to another place")
    if len(key) > MAX_ENTITY_KEY_LENGTH:
        most = MAX_ENTITY_KEY_LENGTH
        raise ValueError(f"{found}, expected a shorter one: with what is under it, {most} characters")
