"""What an answer of the tracking server must be, so that no page of a gateway passes for one.

MLflow's client takes an empty answer, and any answer at all to an upload, for success. Here an answer of success is
one only where it has what MLflow's own description of the request says; everything else raises, as no answer would.
"""

import json
import re
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import requests
from mlflow.protos.mlflow_artifacts_pb2 import DownloadArtifact, MlflowArtifactsService, UploadArtifact
from mlflow.protos.model_registry_pb2 import ModelRegistryService
from mlflow.protos.service_pb2 import MlflowService
from mlflow.utils import rest_utils

from sls.quotation import quote

SERVICES = (MlflowService, ModelRegistryService, MlflowArtifactsService)
API_PATH = re.compile(r"/api/\d\.\d(/mlflow.*)")


class NotMlflow(Exception):
    """Something in between answered; MLflow's client makes an `MlflowException` of it, which is no refusal."""


def watch_answers() -> None:
    """Lets MLflow's client take no answer but MLflow's own, from now on in this process."""
    send = rest_utils._get_http_response_with_retries
    if getattr(send, "is_watched", False):
        return

    def send_and_check(method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        response = send(method, url, *args, **kwargs)
        if response.status_code < requests.codes.bad_request:  # an error is an error in any case
            expect_mlflow(method, url, response)
        return response

    send_and_check.is_watched = True  # type: ignore[attr-defined]
    rest_utils._get_http_response_with_retries = send_and_check


def expect_mlflow(method: str, url: str, response: requests.Response) -> None:
    """Checks an answer that says that all is well.

    Raises:
        NotMlflow: it is not as MLflow describes it.
    """
    path = API_PATH.search(urlsplit(url).path)
    request = next(
        (found for pattern, found in _requests(method) if path and pattern.fullmatch(path[1])), None
    )
    if request is None:
        return
    if request is DownloadArtifact:
        is_mlflow, found = "Content-Disposition" in response.headers, "no attachment"
    elif request is UploadArtifact and not response.content:
        is_mlflow, found = True, ""  # it says no more; `artifacts.upload_directory` asks what is there
    else:
        is_mlflow, found = _is_answer(request, response), quote(response.text)
    if not is_mlflow or response.status_code != requests.codes.ok:
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
def _requests(method: str) -> list[tuple[re.Pattern[str], Any]]:
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
