"""One list of dependencies: pyproject.toml; everything else agrees with it."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read_lock(name: str) -> dict[str, list[Requirement]]:
    lock: dict[str, list[Requirement]] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            lock.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return lock


def pinned_version(requirement: Requirement) -> str:
    (pin,) = requirement.specifier
    assert pin.operator == "=="
    return pin.version


def declared(*extras: str) -> list[Requirement]:
    names = list(PROJECT["dependencies"])
    for extra in extras:
        names += PROJECT["optional-dependencies"][extra]
    return [Requirement(name) for name in names]


@pytest.mark.parametrize(
    ("lock_name", "extras"), [("requirements.txt", ()), ("requirements-test.txt", ("test", "fairseq"))]
)
def test_lock_pins_every_declared_dependency_within_its_range(
    lock_name: str, extras: tuple[str, ...]
) -> None:
    lock = read_lock(lock_name)
    for requirement in declared(*extras):
        pins = lock[canonicalize_name(requirement.name)]
        for pin in pins:
            assert requirement.specifier.contains(pinned_version(pin)), f"{requirement} against {pin}"


def test_everything_that_is_imported_is_declared() -> None:
    """What comes along with another package may one day come no more."""
    distributions = packages_distributions()
    names = {canonicalize_name(requirement.name) for requirement in declared("fairseq")}
    for path in [*(ROOT / "sls").rglob("*.py"), *(ROOT / "entrypoints").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for package in {module.split(".")[0] for module in modules}:
                if package not in sys.stdlib_module_names | {"sls", "entrypoints"}:
                    found = {canonicalize_name(name) for name in distributions[package]}
                    assert found & names, f"{path.relative_to(ROOT)} imports {package}"


@pytest.mark.parametrize("name", ["accelerate", "mlflow", "torch", "torchaudio"])
def test_what_is_used_beyond_its_public_face_is_held_to_one_minor_version(name: str) -> None:
    (requirement,) = (item for item in declared() if item.name == name)
    (pin,) = read_lock("requirements.txt")[name]
    major, minor, *_ = map(int, pinned_version(pin).split("."))
    assert requirement.specifier == SpecifierSet(f">={major}.{minor},<{major}.{minor + 1}")


def test_test_lock_pins_the_versions_of_the_run_lock() -> None:
    run, test = read_lock("requirements.txt"), read_lock("requirements-test.txt")
    versions = {name: {pinned_version(pin) for pin in pins} for name, pins in run.items()}
    assert versions == {name: {pinned_version(pin) for pin in test.get(name, [])} for name in run}


def test_core_lock_is_without_fairseq() -> None:
    assert not [name for name in read_lock("requirements.txt") if "fairseq" in name]


def test_python_env_takes_the_lock_and_the_running_python() -> None:
    environment = yaml.safe_load((ROOT / "python_env.yaml").read_text(encoding="utf-8"))
    assert environment == {"dependencies": ["-r requirements.txt"]}


def test_conda_takes_the_lock_and_fairseq() -> None:
    environment = yaml.safe_load((ROOT / "conda.yaml").read_text(encoding="utf-8"))
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-r requirements.txt", *PROJECT["optional-dependencies"]["fairseq"]]
    python = next(entry for entry in environment["dependencies"] if str(entry).startswith("python="))
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(
        python.removeprefix("python=")
    )


def test_installed_versions_are_the_locked_ones() -> None:
    """A number measured here was measured with what users install."""
    from importlib.metadata import version

    lock = read_lock("requirements-test.txt")
    for requirement in declared("test", "fairseq"):
        pins = [
            pin
            for pin in lock[canonicalize_name(requirement.name)]
            if pin.marker is None or pin.marker.evaluate()
        ]
        assert version(requirement.name) in {pinned_version(pin) for pin in pins}
