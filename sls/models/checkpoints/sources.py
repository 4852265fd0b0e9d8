"""Where a file of weights comes from: a path, or a reference to the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sls.quotation import quote

HUB_SCHEME = "hf://"
HUB_FORM = "hf://owner/repo/file[@revision]"


@dataclass(frozen=True)
class HubReference:
    """One file of a repository on the Hugging Face hub."""

    repo: str
    """Owner and repository, as `owner/repo`."""
    filename: str
    """The file's path inside the repository."""
    revision: str | None = None
    """Branch, tag or commit; none: the repository's main branch."""

    @classmethod
    def parse(cls, text: str) -> HubReference:
        """Reads `hf://owner/repo/file[@revision]`.

        Raises:
            ValueError: on another form.
        """
        path, _, revision = text.removeprefix(HUB_SCHEME).partition("@")
        parts = path.split("/")
        if not text.startswith(HUB_SCHEME) or len(parts) < 3 or not all(parts) or text.endswith("@"):
            raise ValueError(f"hub reference: found {quote(text)}, expected {HUB_FORM}")
        return cls("/".join(parts[:2]), "/".join(parts[2:]), revision or None)

    def sibling(self, name: str) -> HubReference:
        """Returns the reference to another file in the same folder, at the same revision."""
        folder = self.filename.rpartition("/")[0]
        return HubReference(self.repo, f"{folder}/{name}" if folder else name, self.revision)

    def __str__(self) -> str:
        suffix = f"@{self.revision}" if self.revision else ""
        return f"{HUB_SCHEME}{self.repo}/{self.filename}{suffix}"


def fetch(source: str | Path) -> Path:
    """Returns the local path of a file, downloading it (once; it is kept in the hub's cache) if need be.

    Args:
        source: a path, or `hf://owner/repo/file[@revision]`.

    Raises:
        FileNotFoundError: if there is no such file, on disk or on the hub.
        ValueError: if the reference is malformed, or the hub cannot be reached.
    """
    if str(source).startswith(HUB_SCHEME):
        return _download(HubReference.parse(str(source)))
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file, expected a checkpoint or {HUB_FORM}")
    return path


def fetch_sibling(source: str | Path, name: str) -> Path:
    """Returns the local path of the file `name` beside another; raises as `fetch` does."""
    if str(source).startswith(HUB_SCHEME):
        return _download(HubReference.parse(str(source)).sibling(name))
    return fetch(Path(source).with_name(name))


def _download(reference: HubReference) -> Path:
    # Imported on use: a service reads a file of its own, and does without the hub's package.
    from sls.models.checkpoints.hub import download

    try:
        return download(reference.repo, reference.filename, reference.revision)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{reference}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{reference}: {error}") from error
