"""Requests to a real `mlflow models serve`."""

import http.client
import json


def post(port: int, body: object) -> tuple[int, str]:
    return send(port, json.dumps(body).encode(), "application/json")


def send(port: int, body: bytes, content_type: str | None) -> tuple[int, str]:
    # Of http.client, since urllib adds a type of its own.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        headers = {"Content-Type": content_type} if content_type else {}
        connection.request("POST", "/invocations", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
