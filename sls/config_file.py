"""From YAML and what the user typed to a `Config`: the later wins, and nothing unknown is let through."""

import ast
import dataclasses
import inspect
import itertools
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sls.config
from sls.config import Config
from sls.files import looked_in
from sls.quotation import did_you_mean, quote, shorten
from sls.yaml_file import read_yaml


@dataclass(frozen=True)
class FieldSpec:
    """One configuration field: its section, its name, its type and its default."""

    section: str
    name: str
    annotation: Any
    default: Any


def config_fields() -> Iterator[FieldSpec]:
    """Yields every field of the configuration in the order of declaration."""
    for section in dataclasses.fields(Config):
        section_class = typing.get_type_hints(Config)[section.name]
        hints = typing.get_type_hints(section_class)
        for item in dataclasses.fields(section_class):
            yield FieldSpec(section.name, item.name, hints[item.name], item.default)


def read_field_texts() -> dict[str, str]:
    """Returns what stands below each field in the source of the configuration, by name; Python itself forgets it."""
    tree = ast.parse(inspect.getsource(sls.config))
    found = {}
    for section in tree.body:
        for item, below in itertools.pairwise(section.body if isinstance(section, ast.ClassDef) else ()):
            match item, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
    return found


# Options of the known reproduction that have no counterpart here, and what serves instead.
RETIRED = {
    "is_eval": "use mlflow run . -e score",
    "eval": "use mlflow run . -e score",
    "eval_output": "use -e score -P output=FILE",
    "model_path": "use -e score -P model=FILE",
    "track": "training does not need it; -e score and -e evaluate take -P track=NAME",
    "loss": "the loss is always the weighted cross entropy (WCE); its weights are loss_weights",
    "comment": "MLflow names and tags runs; -P recipe=NAME groups them",
    "database_path": "use data_root, and tracks for a corpus of your own",
    "protocols_path": "use data_root, and tracks for a corpus of your own",
    "cudnn_deterministic_toggle": "runs are seeded by seed; there is no toggle",
    "cudnn_benchmark_toggle": "runs are seeded by seed; there is no toggle",
}


def read_config_values(path: str | Path, source: str = "") -> dict[str, Any]:
    """Reads a YAML file of `name: value` lines, and checks its names but not yet its values.

    Args:
        path: The file.
        source: What a message calls it where a name is wrong; empty for its path.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: not YAML, not a mapping, a field twice, or an unknown or retired field, named with its file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"config: no file {path}{looked_in(path)}; expected a YAML file")
    values = read_yaml(path)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(f"{path}: found {type(values).__name__}, expected lines of `name: value`")
    for name in values:
        check_field_name(str(name), source or str(path))
    return values


def build_config(values: Mapping[str, Any], source: str = "configuration") -> Config:
    """Builds a configuration of values by field name, else defaults; raises ValueError, with `source`, for others."""
    for name in values:
        check_field_name(name, source)
    sections: dict[str, dict[str, Any]] = {}
    for spec in config_fields():
        if spec.name in values:
            sections.setdefault(spec.section, {})[spec.name] = _convert(
                spec.name, values[spec.name], spec.annotation
            )
    hints = typing.get_type_hints(Config)
    return Config(**{section: hints[section](**given) for section, given in sections.items()})


def check_field_name(name: str, source: str) -> None:
    """Raises ValueError for what is no configuration field, with what may be meant, or what to use instead."""
    known = [spec.name for spec in config_fields()]
    if name in known:
        return
    if name in RETIRED:
        raise ValueError(f"{source}: {name} is not a setting here; {RETIRED[name]}")
    hint = did_you_mean(name, known, f"; known fields: {', '.join(known)}")
    raise ValueError(f"{source}: unknown configuration field {shorten(name)}{hint}")


def _convert(name: str, value: Any, annotation: Any) -> Any:
    """Converts a YAML value or a typed string to a field's type, without guessing."""
    try:
        return _convert_to(value, annotation)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(f"{name}: found {quote(value)}, expected {_describe(annotation)}") from error


def _convert_to(value: Any, annotation: Any) -> Any:
    if typing.get_origin(annotation) is tuple:
        parts = value.strip("[]() ").split(",") if isinstance(value, str) else list(value)
        return tuple(
            _convert_to(part, kind) for part, kind in zip(parts, typing.get_args(annotation), strict=True)
        )
    if typing.get_origin(annotation) is Literal:
        if value not in typing.get_args(annotation):
            raise ValueError("not one of the choices")
        return value
    return {str: _to_text, bool: _to_bool, int: _to_whole_number, float: _to_number}[annotation](value)


def _to_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


def _to_bool(value: Any) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    return words[str(value).lower()]


def _to_number(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _to_whole_number(value: Any) -> int:
    number = _to_number(value)
    if not number.is_integer():
        raise ValueError("not a whole number")
    # A float would round what has more than 15 digits.
    return int(value) if str(value).lstrip("+-").isdigit() else int(number)


def _describe(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return "one of " + ", ".join(typing.get_args(annotation))
    if origin is tuple:
        return f"{len(typing.get_args(annotation))} numbers, separated by commas"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names[annotation]
