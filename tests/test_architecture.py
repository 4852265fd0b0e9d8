"""Who may import whom: the directions of the house, read from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# By room: the rooms of sls, and the packages from outside, that it may import.
ROOMS = {
    "quotation": (set(), set()),  # every room quotes
    "files": (set(), set()),  # and writes
    "plain_data": (set(), set()),  # and reads JSON
    "processes": (set(), set()),  # and takes turns
    "config": (set(), {"yaml"}),
    "metrics": (set(), {"numpy", "scipy"}),
    "data": ({"config"}, {"numpy", "pyarrow", "scipy", "soundfile", "soxr", "av", "yaml"}),
    "models": ({"config"}, {"torch", "torchaudio", "safetensors", "numpy"}),
    "engine": ({"config", "data", "models", "metrics"}, {"torch", "accelerate", "numpy"}),
    "reports": (
        {"config", "data", "engine", "metrics"},
        {"jinja2", "matplotlib", "numpy", "pandas", "scipy"},
    ),
    "serving": (
        {"config", "data", "models", "metrics", "engine"},
        {"mlflow", "numpy", "packaging", "pandas", "torch", "av", "soundfile", "requests"},
    ),
    "tracking": (
        {"config", "data", "models", "metrics", "engine", "reports", "serving"},
        {
            "mlflow",
            "matplotlib",
            "numpy",
            "packaging",
            "pandas",
            "torch",
            "yaml",
            "psutil",
            "requests",
            "sqlalchemy",
        },
    ),
}
# Modules that may import what the rest of their room may not.
EXCEPTIONS = {
    "sls/data/loading/loader.py": {"torch"},
    "sls/data/loading/training_batches.py": {"torch"},
    "sls/data/loading/scoring_batches.py": {"torch"},
    "sls/models/checkpoints/fairseq_backend.py": {"fairseq"},
    "sls/models/checkpoints/sources.py": {"huggingface_hub"},
}
# They only read what others computed, and are not to wait for PyTorch.
DOORS_WITHOUT_NEURAL_WORK = (
    "check_data",
    "choose",
    "compare",
    "evaluate",
    "fuse",
    "join",
    "operating_point",
    "sync",
    "ui",
)
CONFIG_MODULES = {"config", "config_file", "yaml_file"}


def library_files() -> list[Path]:
    return sorted((ROOT / "sls").rglob("*.py"))


def room_of(module: str) -> str:
    """`sls.data.audio.recording` is of the room `data`; the configuration is one room of three files."""
    name = module.split(".")[1]
    return "config" if name in CONFIG_MODULES else name


def imports_of(path: Path) -> list[str]:
    """All imported module names, those inside functions too."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [f"sls.{alias.name}" for alias in node.names] if node.module == "sls" else [node.module]
    return names


@pytest.mark.parametrize("path", library_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_room_may(path: Path) -> None:
    relative = path.relative_to(ROOT)
    module = ".".join(relative.with_suffix("").parts)
    if module == "sls.__init__":
        return
    room = room_of(module)
    inside, outside = ROOMS[room]
    allowed = outside | EXCEPTIONS.get(str(relative), set())
    for name in imports_of(path):
        package = name.split(".")[0]
        if package == "sls":
            assert room_of(name) in inside | {room, "files", "plain_data", "processes", "quotation"}, (
                f"{relative} imports {name}"
            )
        elif package not in sys.stdlib_module_names:
            assert package in allowed, f"{relative} imports {name}"


@pytest.mark.parametrize("path", library_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_no_private_name_of_another(path: Path) -> None:
    private = [
        alias.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sls")
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert not private


def test_the_journal_of_a_run_knows_no_other_room_of_tracking() -> None:
    """`tracking` imports `tracking.offline`; the other way round, the two would be one."""
    for path in sorted((ROOT / "sls/tracking/offline").glob("*.py")):
        inner = [name for name in imports_of(path) if name.startswith("sls.tracking")]
        assert all(name.startswith("sls.tracking.offline") for name in inner), f"{path.name} imports {inner}"


def test_every_exception_still_exists() -> None:
    missing = [name for name in EXCEPTIONS if not (ROOT / name).is_file()]
    assert not missing


def test_only_tracking_serving_and_doors_import_mlflow() -> None:
    importers = {
        path.relative_to(ROOT).parts[1]
        for path in library_files()
        if any("mlflow" in name for name in imports_of(path))
    }
    assert importers == {"tracking", "serving"}


def test_a_door_does_not_import_the_library_of_another_door_by_its_internals() -> None:
    """Doors may share these modules, which are no doors, and never each other."""
    shared = {
        f"entrypoints.{name}"
        for name in ("door", "options", "progress", "console_tables", "experiment_tables", "score_options")
    }
    for path in sorted((ROOT / "entrypoints").glob("*.py")):
        others = {name for name in imports_of(path) if name.startswith("entrypoints")} - shared
        assert not others, f"{path.name} imports {others}"


def test_doors_that_do_no_neural_work_start_without_pytorch() -> None:
    lines = ["import importlib, sys"]
    for door in DOORS_WITHOUT_NEURAL_WORK:
        lines += [
            f"importlib.import_module('entrypoints.{door}')",
            f"assert 'torch' not in sys.modules, {door!r}",
        ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_nothing_tracked_names_a_machine_or_an_index() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")  # an unpacked archive has no list of what is tracked
    # Spelled in parts, so that this file does not find itself.
    forbidden = ["/" + "work/", "/" + "root/", "extra-" + "index-url", "find-" + "links"]
    for name in listed.stdout.split():
        path = ROOT / name
        if path.suffix in {".png", ".ico"} or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found = [word for word in forbidden if word in text]
        assert not found, f"{name} holds {found}"


def test_a_constant_is_defined_once() -> None:
    modules_by_constant: dict[tuple[str, str], list[str]] = {}
    for path in [*library_files(), *sorted((ROOT / "entrypoints").glob("*.py"))]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
            for name in names:
                if name.isupper() and not name.startswith("_"):
                    constant = (name, ast.unparse(node.value))  # type: ignore[attr-defined]
                    modules_by_constant.setdefault(constant, []).append(str(path.relative_to(ROOT)))
    twice = {constant: modules for constant, modules in modules_by_constant.items() if len(modules) > 1}
    assert not twice
