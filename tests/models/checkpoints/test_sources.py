"""Tests of `sources`, against a hub of our own."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sls.models.checkpoints import build_countermeasure, load_checkpoint, save_checkpoint
from sls.models.checkpoints.native import CheckpointInfo
from sls.models.checkpoints.sources import fetch
from sls.models.countermeasure import Countermeasure

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """A stand-in for the Hugging Face hub: files of one repository, by revision and path."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], bytes] = {}
        self.requests: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(with_body=False)

            def do_GET(self) -> None:
                self.answer(with_body=True)

            def answer(self, with_body: bool) -> None:
                hub.requests.append(f"{self.command} {self.path}")
                owner_repo, _, rest = self.path.lstrip("/").partition("/resolve/")
                revision, _, name = rest.partition("/")
                content = hub.files.get((revision, name)) if owner_repo == "someone/sls" else None
                if content is None:
                    missing = {"someone/sls": (404, "EntryNotFound"), "someone/gated": (401, "GatedRepo")}
                    status, reason = missing.get(owner_repo, (404, "RepoNotFound"))
                    self.send_response(status)
                    self.send_header("X-Error-Code", reason)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if with_body:
                    self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield hub
    hub.server.shutdown()
    hub.server.server_close()
    thread.join()


@pytest.fixture
def checkpoint(model: Countermeasure, tmp_path: Path) -> bytes:
    info = CheckpointInfo(model.encoder, model.num_samples, recipe="v1")
    return save_checkpoint(tmp_path / "epoch_2.safetensors", model, info).read_bytes()


@pytest.mark.parametrize(
    "text",
    ["hf://", "hf://a", "hf://a/b", "hf://a/b/", "hf:///b/c", "hf://a/b/c@", "hf://a//c/d"],
)
def test_a_malformed_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"found '{text}', expected hf://owner/repo/file"):
        fetch(text)


def test_a_checkpoint_comes_from_the_hub_and_once_alone(
    hub: Hub, checkpoint: bytes, model: Countermeasure, waveforms: Tensor
) -> None:
    hub.files["main", "v1/epoch_2.safetensors"] = checkpoint
    for _ in range(2):
        loaded = load_checkpoint("hf://someone/sls/v1/epoch_2.safetensors")
        assert loaded.info.recipe == "v1"
        assert loaded.digest == hashlib.sha256(checkpoint).hexdigest()
    with torch.inference_mode():
        assert torch.equal(loaded.model(waveforms), model(waveforms))
    assert hub.requests.count("GET /someone/sls/resolve/main/v1/epoch_2.safetensors") == 1


@pytest.mark.parametrize(("revision", "written"), [("v1", "v1"), ("refs/pr/5", "refs%2Fpr%2F5")])
def test_a_revision_is_asked_for_as_it_is_written(
    hub: Hub, checkpoint: bytes, revision: str, written: str
) -> None:
    hub.files[written, "a/epoch_2.safetensors"] = checkpoint
    assert fetch(f"hf://someone/sls/a/epoch_2.safetensors@{revision}").read_bytes() == checkpoint


def test_an_encoder_of_the_hub_brings_its_configuration(
    hub: Hub,
    huggingface_state: dict[str, Tensor],
    huggingface_config: dict[str, Any],
    model: Countermeasure,
    tmp_path: Path,
) -> None:
    save_file(huggingface_state, tmp_path / "m.safetensors")
    hub.files["abc", "large/model.safetensors"] = (tmp_path / "m.safetensors").read_bytes()
    hub.files["abc", "large/config.json"] = json.dumps(huggingface_config).encode()
    found = build_countermeasure("hf://someone/sls/large/model.safetensors@abc", 7_760, seed=2)
    assert found.encoder == model.encoder


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("hf://someone/sls/nothing.pth", "revision or file"),
        ("hf://someone/sls/nothing.pth@v1", "revision or file"),
        ("hf://nobody/none/epoch_2.pth", "repository .*HF_TOKEN"),
    ],
)
def test_what_the_hub_does_not_have_is_a_missing_file(hub: Hub, reference: str, reason: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"^{reference}: .*{reason}"):
        fetch(reference)


def test_a_gated_repository_asks_for_accepted_terms_and_a_token(hub: Hub) -> None:
    with pytest.raises(ValueError, match=r"^hf://someone/gated/a.pth: .*gated.*HF_TOKEN"):
        fetch("hf://someone/gated/a.pth")


def test_a_hub_that_does_not_answer_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the hub client's retries
    with pytest.raises(ValueError, match=r"hf://someone/sls/a.pth: .*cannot be reached"):
        fetch("hf://someone/sls/a.pth")


@pytest.mark.slow
def test_the_address_of_the_hub_comes_from_the_environment(
    hub: Hub, checkpoint: bytes, tmp_path: Path
) -> None:
    hub.files["main", "epoch_2.safetensors"] = checkpoint
    code = (
        "from sls.models.checkpoints import load_checkpoint\n"
        "print(load_checkpoint('hf://someone/sls/epoch_2.safetensors').digest)"
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == hashlib.sha256(checkpoint).hexdigest()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none.pth: .*expected .*hf://"):
        fetch(tmp_path / "none.pth")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        fetch(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HF_ENDPOINT", "hf-mirror.com"),
        ("HF_ENDPOINT", "ftp://hub"),
        ("ALL_PROXY", "socks5://anna:secret@127.0.0.1:9"),
        ("HTTPS_PROXY", "ftp://anna:secret@127.0.0.1:9"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem"),
    ],
)
def test_a_setting_of_the_network_that_cannot_be_is_named(tmp_path, name: str, value: str) -> None:
    """In a process of its own: the hub's client is made once in each."""
    code = "from sls.models.checkpoints.sources import fetch; fetch('hf://owner/repo/file.pth')"
    kept = {key: item for key, item in os.environ.items() if "proxy" not in key.lower() and "HF_" not in key}
    environment = {**kept, name: value, "HF_HOME": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("ValueError: ")
    assert name in line
    assert "secret" not in line
