"""The contract of the doors: MLproject, the click commands and the configuration name the same things."""

import importlib
import re
import shlex

import click
import pytest
import yaml

from sls.config import PROJECT_ROOT
from sls.config_file import config_fields

PROJECT = yaml.safe_load((PROJECT_ROOT / "MLproject").read_text(encoding="utf-8"))
DOORS = sorted(PROJECT["entry_points"])


def command_of(door: str) -> click.Command:
    return getattr(importlib.import_module(f"entrypoints.{door}"), door)


def options_of(door: str) -> set[str]:
    return {parameter.name for parameter in command_of(door).params}


@pytest.mark.parametrize("door", DOORS)
def test_every_parameter_of_a_door_is_an_option_of_its_command(door: str) -> None:
    assert set(PROJECT["entry_points"][door]["parameters"]) <= options_of(door)


@pytest.mark.parametrize("door", DOORS)
def test_a_door_hands_each_parameter_to_the_option_of_its_name(door: str) -> None:
    entry = PROJECT["entry_points"][door]
    words = shlex.split(entry["command"])
    assert words[:3] == ["python", "-m", f"entrypoints.{door}"]
    pairs = dict(zip(words[3::2], words[4::2], strict=True))
    assert pairs == {f"--{name}": f"{{{name}}}" for name in entry["parameters"]}


@pytest.mark.parametrize("door", DOORS)
def test_no_door_has_defaults_of_its_own(door: str) -> None:
    """Defaults live in sls.config: an empty parameter means that the user gave none."""
    for name, parameter in PROJECT["entry_points"][door]["parameters"].items():
        assert parameter["default"] == "", name
    for parameter in command_of(door).params:
        assert parameter.default in ("", False), parameter.name


@pytest.mark.parametrize("door", ["main", "train"])
def test_every_configuration_field_can_be_typed(door: str) -> None:
    assert {spec.name for spec in config_fields()} <= options_of(door)


@pytest.mark.parametrize("door", DOORS)
def test_help_says_what_each_option_is(door: str) -> None:
    context = click.Context(command_of(door))
    for parameter in command_of(door).params:
        assert isinstance(parameter, click.Option)
        assert parameter.help, parameter.name
    assert re.search(r"\w+.*\.", command_of(door).get_help(context))
