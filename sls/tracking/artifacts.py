"""Files in the artifact store: linked where it is a local disk; and the states of a training, whole or of no account.

The name of a state says where in its training it was made and which digest it has: a file that was cut off in sending
is told by its name, and the furthest whole one counts. The one before it stays until there is a further one.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from sls.files import file_digest, write_whole
from sls.tracking.database import require_place
from sls.tracking.store import find_run

STORED_STATE = re.compile(r"epoch_\d{6}-batch_\d{9}-[0-9a-f]{64}-.+")
"""The names of states: they sort as the states follow one another."""
_UPLOADING = ".artifact.uploading."
"""How MLflow begins the name of a file on its way into a local store, which it does not list."""


def open_artifacts(client: MlflowClient, location: str) -> ArtifactRepository:
    """Returns the artifact store of a location; raises ConnectionError for none, StoreError for one that is gone."""
    if not location:  # MLflow would take the working directory
        raise ConnectionError("the tracking server does not say where artifacts lie")
    require_place(location)
    return get_artifact_repository(location, tracking_uri=client.tracking_uri)


def download(uri: str, directory: str | Path | None = None) -> Path:
    """Returns where the artifacts of `runs:/ID/PATH` or `models:/ID` lie, downloaded where they are not on this disk.

    Raises:
        MlflowException: there are none, or they cannot be had.
        StoreError: they lay on this disk, in a directory that is gone.
    """
    try:
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(directory) if directory else None))
    except (MlflowException, OSError):
        store = get_artifact_repository(uri)
        require_place(getattr(store, "repo", store).artifact_uri)
        raise


def upload_directory(store: ArtifactRepository, directory: Path, name: str = "") -> None:
    """Uploads a directory whose files nobody will change any more, by hard links to a store on the same disk.

    Raises:
        ConnectionError: a server that took a file does not have it after all.
    """
    sent: dict[str, dict[str, int]] = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        place = PurePosixPath(name, path.relative_to(directory).parent.as_posix()).as_posix()
        place = "" if place == "." else place
        if isinstance(store, LocalArtifactRepository) and _link(path, Path(store.artifact_dir, place)):
            continue
        store.log_artifact(str(path), place or None)
        sent.setdefault(place, {})[path.name] = path.stat().st_size
    if isinstance(store, HttpArtifactRepository):  # its answer to an upload is empty, as a gateway's may be
        for place, sizes in sent.items():
            _expect_files(store, place, sizes)


def _expect_files(store: ArtifactRepository, place: str, sizes: Mapping[str, int]) -> None:
    there = {PurePosixPath(item.path).name: item.file_size for item in store.list_artifacts(place or None)}
    for name, size in sizes.items():
        # MLflow's client puts a name into an address as it is, where %20 means a space.
        found = there.get(name, there.get(unquote(name), "no such file"))
        if found not in (size, None):  # not every store tells the size
            raise ConnectionError(
                f"{PurePosixPath(place, name)}: found {found} on the server, expected {size} bytes"
            )


def upload_state(store: ArtifactRepository, directory: Path, name: str, epoch: int, batch: int) -> None:
    """Uploads the state that is the one file of a directory under a name, and removes those that it makes needless.

    Those are all but the one before it; one from beyond it is of a training that was taken back to an earlier state.
    Done again after it was cut off, it changes nothing that is complete.

    Raises:
        ConnectionError: the store does not list it after all; nothing is removed then.
    """
    (path,) = directory.iterdir()
    if not STORED_STATE.fullmatch(path.name):  # it has its name where the sending was cut off
        order = f"epoch_{epoch:06d}-batch_{batch:09d}"
        path = path.rename(path.with_name(f"{order}-{file_digest(path)}-{path.name}"))
    upload_directory(store, directory, name)
    files = _list_states(store, name)
    if path.name not in files:
        raise ConnectionError(f"the artifact store does not list {name}/{path.name}, which was sent")
    kept = {path.name, *[file for file in files if file < path.name][-1:]}
    for file in set(files) - kept:
        store.delete_artifacts(f"{name}/{file}")


def delete_states(store: ArtifactRepository, name: str) -> None:
    """Removes what `upload_state` uploaded under a name."""
    if _list_states(store, name):
        store.delete_artifacts(name)


def download_state(client: MlflowClient, run_id: str, name: str, directory: Path) -> None:
    """Downloads the furthest whole state of a run under its first name; raises ValueError where none is whole."""
    store = open_artifacts(client, find_run(client, run_id).info.artifact_uri)
    torn = []
    for stored in reversed(_list_states(store, name)):
        file = Path(store.download_artifacts(f"{name}/{stored}", str(directory)))
        _, _, expected, called = stored.split("-", 3)
        digest = file_digest(file)
        if digest == expected:
            file.rename(directory / called)
            return
        file.unlink()
        torn.append(f"{name}/{stored} has the digest {digest[:12]}")
    raise ValueError(f"run {run_id} holds no whole {name}{''.join(f'; {text}' for text in torn)}")


def _list_states(store: ArtifactRepository, name: str) -> list[str]:
    """Lists the files of the states under a name, the furthest last."""
    files = [PurePosixPath(item.path).name for item in store.list_artifacts(name)]
    return sorted(file for file in files if STORED_STATE.fullmatch(file))


def _link(path: Path, directory: Path) -> bool:
    """Links a file into a directory, in place of what is there; False where the disks differ."""
    try:
        with write_whole(directory / path.name, _UPLOADING) as temporary:
            os.link(path, temporary)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True
