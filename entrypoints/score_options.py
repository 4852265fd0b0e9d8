"""What the doors that read score files share: their options, and what is asked of the files."""

from collections.abc import Callable, Mapping

from entrypoints.options import Command, optional_path, parse_boolean, split_list, text_option
from sls.tracking.evaluation.evaluation_run import EvaluationRequest

REQUEST_OPTIONS = {
    "key": "key file or directory [default: found under data_root]",
    "asv_scores": "ASV scores, where the key does not bring them",
    "subset": "eval, progress, hidden or all [default: the track's own, eval]",
    "allow_partial": "true: take the trials that all scores and the key share [default: false]",
    "score_column": "of score files in another form: number (from 1) or name of the column that is the score",
}


def request_options(*names: str) -> Callable[[Command], Command]:
    """Adds `REQUEST_OPTIONS`, or some of them."""

    def add(command: Command) -> Command:
        for name in reversed(names or tuple(REQUEST_OPTIONS)):
            command = text_option(name, REQUEST_OPTIONS[name])(command)
        return command

    return add


def read_request(track: str, options: Mapping[str, str]) -> EvaluationRequest:
    """Returns what `request_options` say of a track, or of several where it is empty."""
    return EvaluationRequest(
        track,
        options.get("subset", ""),
        optional_path(options.get("key", "")),
        optional_path(options.get("asv_scores", "")),
        parse_boolean("allow_partial", options["allow_partial"]),
        score_column=options["score_column"],
    )


def split_tracks(text: str) -> list[str]:
    """Returns tracks that are separated by commas; raises ValueError where there is none, or one twice."""
    tracks = split_list(text)
    if not tracks or len(set(tracks)) < len(tracks):
        raise ValueError(f"track: found {text or 'nothing'}, expected tracks, each once, such as dev,LA")
    return tracks
