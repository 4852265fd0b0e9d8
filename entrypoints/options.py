"""Options of the doors: one for each configuration field, generated from `sls.config`."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from sls.config import MAX_SEED, PROJECT_ROOT, WORK_ROOT, Config, DataConfig
from sls.config_file import build_config, config_fields, read_config_values, read_field_texts
from sls.data.corpora.corpus import Corpus, open_corpus
from sls.engine.scoring.partial_scores import Shard
from sls.quotation import quote
from sls.tracking.names import check_tracks

DATA_ROOT_VARIABLE = "SLS_DATA_ROOT"
DEFAULT_CONFIG = PROJECT_ROOT / "configs" / "v1.yaml"
DEMO_CONFIG = PROJECT_ROOT / "configs" / "demo.yaml"

MAX_SEEDS = 50
SEEDS_TEXT = (
    f"seeds of as many trainings of a recipe: 1234,1,2; or their number, up to {MAX_SEEDS}, from the recipe's own "
    "seed on [default: that one alone]"
)

Command = Callable[..., Any]
Choice = TypeVar("Choice", bound=str)


def text_option(name: str, text: str) -> Callable[[Command], Command]:
    """An option that is not given when it is empty: `mlflow run` passes every declared parameter."""
    return click.option(f"--{name}", name, default="", help=text)


def text_options(texts: Mapping[str, str]) -> Callable[[Command], Command]:
    """Options as of `text_option`, by name."""

    def add(command: Command) -> Command:
        for name, text in reversed(list(texts.items())):
            command = text_option(name, text)(command)
        return command

    return add


def config_options(*sections: str) -> Callable[[Command], Command]:
    """Adds one option for each configuration field of these sections, or of all sections if none is named."""
    texts = read_field_texts()
    fields = (spec for spec in config_fields() if not sections or spec.section in sections)
    return text_options({spec.name: f"{texts[spec.name]} [default: {spec.default}]" for spec in fields})


def given(options: Mapping[str, str]) -> dict[str, str]:
    """Returns the options that the user typed."""
    return {name: value for name, value in options.items() if value != ""}


def read_config(path: str | Path, options: Mapping[str, str]) -> Config:
    """Builds the configuration: defaults, then the YAML file, then what the user typed.

    Without a data_root, which calls for the demo corpus, configs/demo.yaml takes the place of the defaults.

    Raises:
        FileNotFoundError: no such YAML file.
        ValueError: a field that does not exist, or a value of the wrong type or out of range.
    """
    typed: dict[str, Any] = given(options)
    from_file = read_config_values(path)
    data_root = typed.get("data_root") or from_file.get("data_root") or os.environ.get(DATA_ROOT_VARIABLE, "")
    defaults = {} if data_root else read_config_values(DEMO_CONFIG)
    return build_config({**defaults, **from_file, **typed, "data_root": data_root}, source=str(path))


def typed_config(options: Mapping[str, str]) -> Config:
    """Returns the defaults with what was typed of them; options that are no field are the door's own."""
    names = {spec.name for spec in config_fields()}
    typed = {name: value for name, value in given(options).items() if name in names}
    return build_config({"data_root": os.environ.get(DATA_ROOT_VARIABLE, ""), **typed})


def with_seeds(config: Config, text: str, typed_seed: str = "") -> list[Config]:
    """Returns a configuration once for each of several seeds; with none given, as it is.

    A number alone is how many, from the configuration's own seed on; with a comma it is a seed. Raises ValueError for
    anything else, for a seed twice, and for the option `seed` beside a list.
    """
    if not text:
        return [config]
    words = split_list(text)
    numbers = [int(word) for word in words if word.isdecimal() and len(word) <= len(str(MAX_SEED))]
    first = config.training.seed
    if "," not in text and numbers and 1 <= numbers[0] <= MAX_SEEDS:
        numbers = list(range(first, first + numbers[0]))
    elif "," not in text or len(numbers) < len(words) or len(set(numbers)) < len(numbers) or not numbers:
        raise ValueError(
            f"seeds: found {quote(text)}, expected a number of seeds from 1 to {MAX_SEEDS}, or different whole "
            "numbers with a comma: 1234,1,2 (seed=1234 sets a single one)"
        )
    elif typed_seed:
        raise ValueError(f"seed: found {typed_seed} beside seeds {text}, expected one of the two")
    return [replace(config, training=replace(config.training, seed=number)) for number in numbers]


def find_corpus(data: DataConfig, key: str = "", wanted: Iterable[str] = ()) -> Corpus:
    """Opens a corpus, as `open_corpus` does, whose tracks have names under which results can be recorded."""
    corpus = open_corpus(data, key, wanted)
    check_tracks(corpus)
    return corpus


def parse_shard(text: str) -> Shard:
    """Returns which part of several to score, by default the whole; raises ValueError unless it is NUMBER/COUNT."""
    if not text:
        return Shard()
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal()):
        raise ValueError(f"shard: found {quote(text)}, expected NUMBER/COUNT, numbers from 1, such as 3/16")
    return Shard(int(number), int(count))


def optional_path(text: str) -> Path | None:
    """Returns a path, or None where the option was not given."""
    return Path(text) if text else None


def output_path(text: str) -> Path | None:
    """Returns the path of a file to write, as `optional_path` does; never one in a temporary clone."""
    path = optional_path(text)
    return path if path is None or WORK_ROOT == PROJECT_ROOT else WORK_ROOT / path


def split_list(text: str) -> list[str]:
    """Returns the items of a list that is separated by commas."""
    return [item.strip() for item in text.split(",") if item.strip()]


def parse_boolean(name: str, text: str) -> bool:
    """Returns an option, true or by default false; raises ValueError for anything else."""
    if text.lower() not in ("", "true", "false"):
        raise ValueError(f"{name}: found {quote(text)}, expected true or false")
    return text.lower() == "true"


def parse_choice(name: str, text: str, choices: Sequence[Choice]) -> Choice:
    """Returns one of some words, by default the first; raises ValueError for another one."""
    for choice in choices:
        if text in (choice, ""):
            return choice
    raise ValueError(f"{name}: found {quote(text)}, expected one of {', '.join(choices)}")


def parse_count(name: str, text: str, default: int) -> int:
    """Returns an option that is a number of things, from 0; raises ValueError for anything else."""
    if text and not text.isdecimal():
        raise ValueError(f"{name}: found {quote(text)}, expected a whole number, 0 or more")
    return int(text) if text else default
