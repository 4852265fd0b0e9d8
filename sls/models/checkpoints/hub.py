"""Files of the Hugging Face hub."""

from __future__ import annotations

import os
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)


def download(repo: str, filename: str, revision: str | None) -> Path:
    """Returns the local path of a file of the hub, downloaded once and kept in the hub's cache.

    Raises:
        FileNotFoundError: there is no such repository, revision or file, or none without a token.
        ValueError: the repository is gated, or the hub cannot be reached.
    """
    endpoint = os.environ.get("HF_ENDPOINT")  # read here, because huggingface_hub reads it once, at import
    try:
        return Path(hf_hub_download(repo, filename, revision=revision, endpoint=endpoint))
    except LocalEntryNotFoundError as error:
        raise ValueError("the hub cannot be reached, and the file is not in its cache") from error
    except GatedRepoError as error:  # before RepositoryNotFoundError, of which it is one
        raise ValueError(
            "the repository is gated: accept its terms on the hub, and set HF_TOKEN to a token of that account"
        ) from error
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            "no such repository on the hub, or not accessible without a token (HF_TOKEN)"
        ) from error
    except (EntryNotFoundError, RevisionNotFoundError) as error:
        raise FileNotFoundError("no such revision or file in the repository") from error
    except HfHubHTTPError as error:
        raise ValueError(f"the hub answered: {str(error).splitlines()[0]}") from error
