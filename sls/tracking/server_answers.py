"""What an answer of the tracking server must be, so that no page of a gateway passes for one.

MLflow's client takes an empty answer, and any answer at all to an upload, for success. Here an answer of success is
one only where it has what MLflow's own description of the request says; everything else raises, as no answer would.
An MLflow that is made otherwise within, so that its answers cannot be looked at here, goes on without this check.
"""

import json
import logging
import re
from functools import cache, wraps
from typing import Any
from urllib.parse import urlsplit

import requests
from mlflow.protos.mlflow_artifacts_pb2 import (
    DeleteArtifact,
    DownloadArtifact,
    MlflowArtifactsService,
    UploadArtifact,
)
from mlflow.protos.model_registry_pb2 import ModelRegistryService
from mlflow.protos.service_pb2 import MlflowService
from mlflow.utils import rest_utils

from sls.quotation import quote

SERVICES = (MlflowService, ModelRegistryService, MlflowArtifactsService)
API_PATH = re.compile(r"/api/\d\.\d(/mlflow.*)")
SEND = "_get_http_response_with_retries"
"""The function of MLflow's client through which every request to a tracking server goes; it is a private one."""

logger = logging.getLogger(__name__)


class NotMlflow(Exception):
    """Something in between answered; MLflow's client makes an `MlflowException` of it, which is no refusal."""


def watch_answers() -> None:
    """Lets MLflow's client take no answer but MLflow's own, from now on in this process."""
    send = getattr(rest_utils, SEND, None)
    if getattr(send, "is_watched", False):
        return
    try:
        if send is None or not find_requests("POST"):
            raise AttributeError(f"mlflow.utils.rest_utils has no {SEND}, or describes no requests")
    except Exception as error:  # whatever another version has in its place
        logger.warning("this MLflow does not let its answers be checked for those of gateways (%s)", error)
        return

    @wraps(send)
    def send_and_check(*args: Any, **kwargs: Any) -> Any:
        response = send(*args, **kwargs)
        # An error is an error in any case; what was asked for stands in the first request, before any redirection.
        if isinstance(response, requests.Response) and response.ok:
            asked = (response.history or [response])[0].request
            expect_mlflow(str(asked.method), str(asked.url), response)
        return response

    send_and_check.is_watched = True  # type: ignore[attr-defined]
    setattr(rest_utils, SEND, send_and_check)


def expect_mlflow(method: str, url: str, response: requests.Response) -> None:
    """Checks an answer that says that all is well; raises NotMlflow where it is not as MLflow describes it."""
    path = API_PATH.search(urlsplit(url).path)
    request = next(
        (found for pattern, found in find_requests(method) if path and pattern.fullmatch(path[1])), None
    )
    if request is None:
        return
    is_mlflow = response.status_code == requests.codes.ok
    if request is DownloadArtifact:
        is_mlflow, found = is_mlflow and "Content-Disposition" in response.headers, "no attachment"
    elif request in (UploadArtifact, DeleteArtifact) and not response.content:
        # Some servers say no more; of an upload, `artifacts.upload_directory` asks what is there.
        is_mlflow, found = request is UploadArtifact or response.status_code == requests.codes.no_content, ""
    else:
        is_mlflow, found = is_mlflow and _is_answer(request, response), quote(response.text)
    if not is_mlflow:
        kind = response.headers.get("Content-Type", "no type")
        raise NotMlflow(f"found an answer {response.status_code} of {kind}, {found}, expected one of MLflow")


def _is_answer(request: Any, response: requests.Response) -> bool:
    """Whether an answer has a field of those that the request is answered by, or none where there need not be any."""
    try:
        answer = json.loads(response.content)
    except ValueError:
        return False
    fields = request.Response.DESCRIPTOR.fields_by_name
    if answer == {}:
        # A list may be empty; what was asked for or made by name is in the answer.
        is_one = request.__name__.startswith(("Get", "Create")) and fields
        return not is_one or any(field.is_repeated for field in fields.values())
    return isinstance(answer, dict) and not answer.keys().isdisjoint(fields)


@cache
def find_requests(method: str) -> list[tuple[re.Pattern[str], Any]]:
    """Returns MLflow's requests of a method by the patterns of their paths, the plain ones first."""
    described = [
        (re.sub(r"{[^}]+}", "[^/]+", re.sub("<[^>]+>", ".+", "/" + path.lstrip("/"))), request)
        for service in SERVICES
        for request, places in rest_utils.extract_all_api_info_for_service(service, "").items()
        for path, place_method in places
        if place_method == method
    ]
    return [
        (re.compile(path), request) for path, request in sorted(described, key=lambda item: "+" in item[0])
    ]
