"""Tests of `bundle`: it holds all that serving needs, and names the packages."""

import ast
import importlib.metadata
import json
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from benchmarks.model_server import running_server
from sls.engine.evaluation.calibration import save_calibration
from sls.metrics.calibration import LogisticCalibration
from sls.serving.bundle import (
    SERVING_PACKAGES,
    example_recording,
    save_served_model,
    serving_constraints,
)
from tests.servers import post
from tests.serving.uploads import FLAC, WAV, base64_of, frame_of


def test_bundle_has_a_signature_with_params_and_an_example_that_it_can_answer(bundle, served) -> None:
    signature = served.metadata.signature
    assert signature.inputs.input_names() == ["audio", "samples", "sample_rate_hz"]
    params = {spec.name: spec.default for spec in signature.params.params}
    assert params == {
        "spoof_prior": 0.05,
        "miss_cost": 1.0,
        "false_alarm_cost": 10.0,
        "layer_weights": False,
        "curve": False,
        "curve_hop_s": 2.0,
    }
    example = served.input_example
    assert example["audio"][0] == example_recording()
    answer = served.predict(example)
    assert answer["warnings"][0] == "short"
    assert set(answer.columns) <= set(signature.outputs.input_names())


@pytest.mark.slow
def test_requirements_are_what_the_loaded_code_imports_and_no_more(bundle) -> None:
    """Every module of ours that serving loads, in a fresh process, and what these import at their top."""
    script = (
        "import sys, mlflow; mlflow.pyfunc.load_model(sys.argv[1]);"
        "print('\\n'.join(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'sls' and m.__file__))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(bundle)],
        cwd=bundle,
        capture_output=True,
        text=True,
        check=True,
    )
    files = [Path(line) for line in result.stdout.split() if line.endswith(".py")]
    assert all(bundle in path.parents for path in files)
    names = {name for path in [*files, bundle / "pyfunc.py"] for name in top_imports(path)}
    outside = names - set(sys.stdlib_module_names) - {"sls"}
    owners = importlib.metadata.packages_distributions()
    # mlflow is made of three packages, of which the first brings the others.
    needed = {min(owners[name]).replace("_", "-") for name in outside}
    assert needed == set(SERVING_PACKAGES)
    requirements = (bundle / "requirements.txt").read_text().splitlines()
    pins = [f"{name}=={importlib.metadata.version(name).split('+')[0]}" for name in SERVING_PACKAGES]
    assert requirements == [*pins, "-c constraints.txt"]
    assert set(pins) < set((bundle / "constraints.txt").read_text().splitlines())


def top_imports(path: Path) -> set[str]:
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    return found


def test_bundle_needs_nothing_of_the_place_where_it_was_made(checkpoint, tmp_path, monkeypatch) -> None:
    made = tmp_path / "made"
    made.mkdir()
    shutil.copyfile(checkpoint, made / "tiny.safetensors")
    save_calibration(made / "mine.json", LogisticCalibration(2.0, 1.0))
    save_served_model(made / "model", made / "tiny.safetensors", made / "mine.json")
    (made / "model").rename(tmp_path / "moved")
    shutil.rmtree(made)
    monkeypatch.chdir(tmp_path)
    answer = mlflow.pyfunc.load_model("moved").predict(frame_of(WAV))
    assert answer["llr"][0] == pytest.approx(2 * answer["score"][0] + 1)


BLOCKED = """
import importlib.metadata, json, sys
bundle, pins = sys.argv[1], open(sys.argv[1] + "/constraints.txt").read().split()
served = {pin.split("==")[0] for pin in pins}
blocked = {
    module
    for module, owners in importlib.metadata.packages_distributions().items()
    if not served & {owner.lower().replace("_", "-").replace(".", "-") for owner in owners}
}
assert {"accelerate", "huggingface_hub", "rich"} <= blocked, blocked

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is no package of the served model")

sys.meta_path.insert(0, Blocker())
import mlflow
model = mlflow.pyfunc.load_model(bundle)
print(json.dumps(model.predict(model.input_example)["score"].to_list()))
"""


@pytest.mark.slow
def test_serving_uses_no_package_but_its_pinned_ones(bundle, served, tmp_path) -> None:
    """In an interpreter in which every other installed package is missing."""
    result = subprocess.run(
        [sys.executable, "-I", "-c", BLOCKED, str(bundle)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    expected = served.predict(served.input_example)["score"].to_list()
    assert json.loads(result.stdout) == pytest.approx(expected, abs=1e-5)


def test_pins_are_of_public_versions_and_of_installed_packages(monkeypatch) -> None:
    """A torch of another index is 2.11.0+cu128, and conda brings the libraries of CUDA by other names."""
    real_version = importlib.metadata.version

    def version(name: str) -> str:
        if name.startswith("nvidia-"):
            raise importlib.metadata.PackageNotFoundError(name)
        return f"{real_version(name)}+cu128" if name == "torch" else real_version(name)

    monkeypatch.setattr("sls.serving.bundle.version", version)
    pins = serving_constraints()
    assert f"torch=={real_version('torch').split('+')[0]}" in pins
    assert not [pin for pin in pins if pin.startswith("nvidia-") or "+" in pin]
    assert {"mlflow-skinny", "uvicorn", "cffi"} <= {pin.split("==")[0] for pin in pins}
    assert "accelerate" not in {pin.split("==")[0] for pin in pins}


@pytest.mark.slow
def test_uv_makes_a_fresh_environment_that_serves_a_copy_elsewhere(bundle, served, tmp_path, program) -> None:
    """With nothing of the project, of the place where the bundle was made, or of this environment."""
    # It needs a cache that it can write to, which is in HOME, and an index of packages.
    probe = tmp_path / "probe"
    program("uv", "pip", "install", "--target", str(probe), "--python", sys.executable, "--dry-run", "torch")
    shutil.copytree(bundle, tmp_path / "copy")
    environments = tmp_path / "environments"
    try:
        with running_server(
            tmp_path / "copy", tmp_path, "uv", MLFLOW_ENV_ROOT=str(environments), PYTHONPATH=""
        ) as server:
            status, text = post(server.port, {"dataframe_records": [{"audio": base64_of(FLAC)}]})
        (site,) = environments.glob("*/lib/python*/site-packages")
        installed = {item.name.split("-")[0].lower() for item in site.glob("*.dist-info")}
    finally:
        # Gigabytes, where the cache of uv is on another disk.
        shutil.rmtree(environments, ignore_errors=True)
    assert status == 200, text
    expected = served.predict(frame_of(FLAC))["score"][0]
    assert json.loads(text)["predictions"][0]["score"] == pytest.approx(expected, abs=1e-5)
    pins = {pin.split("==")[0].replace("-", "_") for pin in (bundle / "constraints.txt").read_text().split()}
    assert installed <= pins | {"pip", "wheel", "setuptools"}, installed - pins
