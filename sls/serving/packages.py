"""The packages that a served model needs: named in its requirements, pinned with all that they bring along."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

# What the served model imports, and no more; a test holds this list to the imports.
SERVING_PACKAGES = (
    "mlflow",
    "torch",
    "torchaudio",
    "numpy",
    "pandas",
    "pyarrow",
    "safetensors",
    "soundfile",
    "av",
    "soxr",
)


def serving_requirements() -> list[str]:
    """Returns the pinned packages that serving needs, as they are installed here."""
    return [f"{name}=={_public_version(name)}" for name in SERVING_PACKAGES]


def serving_constraints() -> list[str]:
    """Returns the pins of these packages and of all that they bring along.

    Without them an environment that is built next year would hold that year's packages.
    """
    pins: dict[str, str] = {}
    waiting = [Requirement(name) for name in SERVING_PACKAGES]
    asked: set[tuple[str, str]] = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in asked:
                continue
            asked.add((name, extra))
            try:
                pins[name] = f"{name}=={_public_version(name)}"
            except PackageNotFoundError:
                continue  # conda, for one, brings the libraries of CUDA under names of its own
            waiting += _requirements_of(name, extra)
    return sorted(pins.values())


@cache
def _requirements_of(name: str, extra: str) -> tuple[Requirement, ...]:
    found = map(Requirement, requires(name) or ())
    return tuple(one for one in found if one.marker is None or one.marker.evaluate({"extra": extra}))


def _public_version(name: str) -> str:
    """A version without its local part, such as +cu128, which the public registry does not serve."""
    return Version(version(name)).public
