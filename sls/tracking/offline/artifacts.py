"""Files in the artifact store: linked where it is a local disk, and directories that replace one another."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from sls.files import file_digest, scratch_directory, write_whole
from sls.tracking.store import find_run

MANIFEST_FILE = "manifest.json"
SLOTS = ("a", "b")


@dataclass(frozen=True)
class Manifest:
    """What a whole directory holds; it is uploaded last."""

    recorded_ns: int
    """When the directory was recorded: the newer of two counts."""
    sha256: dict[str, str]
    """By file."""

    @classmethod
    def parse(cls, text: str) -> Manifest:
        """Reads what `to_json` wrote."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Returns its text."""
        return json.dumps({"recorded_ns": self.recorded_ns, "sha256": self.sha256}, indent=2) + "\n"


def open_artifacts(client: MlflowClient, location: str) -> ArtifactRepository:
    """Returns the artifact store of a run or model, by its location."""
    return get_artifact_repository(location, tracking_uri=client.tracking_uri)


def upload_directory(store: ArtifactRepository, directory: Path, name: str = "") -> None:
    """Uploads all files of a directory that nobody will change any more; a local store shares them."""
    for path in _files(directory):
        upload_file(store, path, str(PurePosixPath(name, path.relative_to(directory).parent.as_posix())))


def upload_file(store: ArtifactRepository, path: Path, directory: str) -> None:
    """Uploads a file that nobody will change any more: by a hard link where the store is on the same disk."""
    directory = "" if directory == "." else directory
    if isinstance(store, LocalArtifactRepository) and _link(path, Path(store.artifact_dir, directory)):
        return
    store.log_artifact(str(path), directory or None)


def replace_directory(store: ArtifactRepository, directory: Path, name: str, recorded_ns: int) -> None:
    """Uploads a directory in place of the older of the two that the store holds under a name.

    The newer one stays whole meanwhile. Done again after it was cut off, it changes nothing that is complete.
    """
    newest = _manifests(store, name)[:1]
    if newest and newest[0][1].recorded_ns >= recorded_ns:
        return
    slot = next(slot for slot in _slots(name) if not newest or slot != newest[0][0])
    digests = {path.relative_to(directory).as_posix(): file_digest(path) for path in _files(directory)}
    for file in digests:
        upload_file(store, directory / file, str(PurePosixPath(slot, file).parent))
    with scratch_directory() as scratch:
        manifest = scratch / MANIFEST_FILE
        manifest.write_text(Manifest(recorded_ns, digests).to_json(), encoding="utf-8")
        store.log_artifact(str(manifest), slot)


def delete_directory(store: ArtifactRepository, name: str) -> None:
    """Removes what `replace_directory` uploaded under a name; the manifests go first, so that no rest looks whole."""
    for slot in _slots(name):
        present = {item.path for item in store.list_artifacts(slot)}
        if f"{slot}/{MANIFEST_FILE}" in present:
            store.delete_artifacts(f"{slot}/{MANIFEST_FILE}")
        if present:
            store.delete_artifacts(slot)


def read_directory(client: MlflowClient, run_id: str, name: str) -> Path:
    """Downloads the newest whole directory that a run recorded with `replace_directory`.

    Returns:
        A directory that is the caller's own, to be removed after use.

    Raises:
        ValueError: there is none, or none is whole.
    """
    store = open_artifacts(client, find_run(client, run_id).info.artifact_uri)
    found = _manifests(store, name)
    if not found:
        raise ValueError(f"run {run_id} holds no {name}")
    torn = []
    for slot, manifest in found:
        directory = Path(tempfile.mkdtemp(prefix="sls-"))
        torn.append(_download(store, slot, manifest, directory))
        if not torn[-1]:
            return directory
        shutil.rmtree(directory)
    raise ValueError(f"run {run_id}: {name} is not whole: {'; '.join(torn)}")


def _download(store: ArtifactRepository, slot: str, manifest: Manifest, directory: Path) -> str:
    """Fetches the files of a manifest, and says which is not what the manifest says."""
    present = {PurePosixPath(path) for path in _listed(store, slot)}
    for file, expected in manifest.sha256.items():
        remote = PurePosixPath(slot, file)
        if remote not in present:
            return f"{remote} is missing"
        target = directory / file
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="sls-", dir=directory) as scratch:
            Path(store.download_artifacts(str(remote), scratch)).rename(target)
        found = file_digest(target)
        if found != expected:
            return f"{remote} has the digest {found[:12]}, expected {expected[:12]}"
    return ""


def _listed(store: ArtifactRepository, directory: str) -> list[str]:
    """Lists the files below a directory; none where there is no such directory."""
    files: list[str] = []
    for item in store.list_artifacts(directory):
        files += _listed(store, item.path) if item.is_dir else [item.path]
    return files


def _manifests(store: ArtifactRepository, name: str) -> list[tuple[str, Manifest]]:
    """Returns the slots that hold a manifest, the newest first."""
    found = []
    for slot in _slots(name):
        path = f"{slot}/{MANIFEST_FILE}"
        if path in [item.path for item in store.list_artifacts(slot)]:
            with scratch_directory() as scratch:
                text = Path(store.download_artifacts(path, str(scratch))).read_text(encoding="utf-8")
            found.append((slot, Manifest.parse(text)))
    return sorted(found, key=lambda item: item[1].recorded_ns, reverse=True)


def _slots(name: str) -> list[str]:
    return [f"{name}-{slot}" for slot in SLOTS]


def _files(directory: Path) -> list[Path]:
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory} is gone")
    return sorted(path for path in directory.rglob("*") if path.is_file())


def _link(path: Path, directory: Path) -> bool:
    """Links a file into a directory, in place of what is there; False where the disks differ."""
    try:
        with write_whole(directory / path.name) as temporary:
            os.link(path, temporary)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True
