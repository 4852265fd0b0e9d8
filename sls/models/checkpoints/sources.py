"""Where a file of weights comes from: a path, or a reference to the Hugging Face hub."""

import os
import re
from pathlib import Path, PurePosixPath

from sls.quotation import quote

HUB_SCHEME = "hf://"
PROXY_SETTINGS = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
CERTIFICATE_SETTINGS = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
HUB_FORM = "hf://owner/repo/file[@revision]"
_REFERENCE = re.compile(r"hf://([^/@]+/[^/@]+)/([^/@]+(?:/[^/@]+)*)(?:@(.+))?")


def fetch(source: str | Path, sibling: str = "") -> Path:
    """Returns the local path of a file, downloading it (once; it is kept in the hub's cache) if need be.

    A sibling is the name of a file beside that one, to fetch in its place.

    Raises:
        FileNotFoundError: if there is no such file, on disk or on the hub.
        ValueError: if the reference is malformed, or the hub cannot be reached.
    """
    if not str(source).startswith(HUB_SCHEME):
        path = Path(source).with_name(sibling) if sibling else Path(source)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file, expected a checkpoint or {HUB_FORM}")
        return path
    found = _REFERENCE.fullmatch(str(source))
    if found is None:
        raise ValueError(f"hub reference: found {quote(str(source))}, expected {HUB_FORM}")
    repo, filename, revision = found.groups()
    if sibling:
        filename = str(PurePosixPath(filename).with_name(sibling))
    return _download(repo, filename, revision)


def _download(repo: str, filename: str, revision: str | None) -> Path:
    # Imported on use: a service reads a file of its own, and does without the hub's package.
    from huggingface_hub import errors, hf_hub_download

    reference = f"{HUB_SCHEME}{repo}/{filename}" + (f"@{revision}" if revision else "")
    endpoint = os.environ.get("HF_ENDPOINT")  # read here, because huggingface_hub reads it once, at import
    if endpoint and not endpoint.startswith(("http://", "https://")):
        raise ValueError(f"HF_ENDPOINT: found {endpoint}, expected an address that begins with https://")
    try:
        return Path(hf_hub_download(repo, filename, revision=revision, endpoint=endpoint))
    except errors.LocalEntryNotFoundError as error:
        raise ValueError(f"{reference}: the hub cannot be reached, and the file is not cached") from error
    except errors.GatedRepoError as error:  # before RepositoryNotFoundError, of which it is one
        raise ValueError(
            f"{reference}: the repository is gated: accept its terms on the hub, and set HF_TOKEN to a token of "
            "that account"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{reference}: no such repository on the hub, or not accessible without a token (HF_TOKEN)"
        ) from error
    except (errors.EntryNotFoundError, errors.RevisionNotFoundError) as error:
        raise FileNotFoundError(f"{reference}: no such revision or file in the repository") from error
    except errors.HfHubHTTPError as error:
        raise ValueError(f"{reference}: the hub answered: {str(error).splitlines()[0]}") from error
    except (ImportError, OSError, ValueError) as error:  # a proxy's scheme, a certificate that is not there
        reason = " ".join(str(error).split())
        kind = PROXY_SETTINGS if "proxy" in reason.lower() else CERTIFICATE_SETTINGS
        given = ", ".join(name for name in kind if os.environ.get(name))  # a value may hold a password
        raise ValueError(
            f"{reference}: the hub cannot be asked: {reason} (see {given or 'HF_ENDPOINT'})"
        ) from error
