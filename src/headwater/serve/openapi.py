"""The API's description of itself, at /openapi.json and in docs/openapi.json."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from headwater.answer import answer_schema
from headwater.serve.problems import MEDIA_TYPE
from headwater.version import __version__

SUMMARY = "Which training examples made this language model say that?"
DESCRIPTION = (
    "A question becomes a job: `POST /v1/influences`, then `GET /v1/jobs/{id}` or its events until it is done. "
    "What goes wrong is told as RFC 9457 says, in `application/problem+json`."
)
REFUSALS = {
    400: "The body cannot be read.",
    401: "The server's token is missing.",
    403: "The request comes from a page of another site, or calls the server by a foreign name.",
    404: "There is none.",
    409: "There is no answer (yet).",
    413: "The body is too long.",
    422: "Something in the request is wrong; the detail says what, and how to mend it.",
    429: "The queue is full; Retry-After says in how many seconds to come again.",
    500: "A fault of the server; its log says more.",
    503: "The run is still loading, could not be loaded, or the server is stopping.",
}
EVERYWHERE = (401, 403, 500)
WITH_BODY = (400, 413, 422)
QUEUED = (429, 503)


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of an operation: those given, and those that any request may meet."""
    reference = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": REFUSALS[status], "content": {MEDIA_TYPE: {"schema": reference}}}
        for status in sorted({*statuses, *EVERYWHERE})
    }


def describe_api(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of `app`."""
    document = get_openapi(
        title="Headwater", version=__version__, summary=SUMMARY, description=DESCRIPTION, routes=app.routes
    )
    components = document["components"]
    components["schemas"].update(_answer())
    components["schemas"]["JobBody"]["properties"]["answer"] |= {
        "anyOf": [{"$ref": "#/components/schemas/Answer"}, {"type": "null"}]
    }
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "Where the server was started with a token."}
    }
    document["security"] = [{}, {"token": []}]
    return document


def _answer() -> dict[str, Any]:
    """The schema of an answer (docs/answer.schema.json) and of its parts, as components."""
    text = json.dumps(answer_schema()).replace("#/$defs/", "#/components/schemas/")
    schema = json.loads(text)
    parts = schema.pop("$defs")
    schema.pop("$schema")
    return {**parts, "Answer": schema}
