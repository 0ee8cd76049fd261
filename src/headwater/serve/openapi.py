"""The OpenAPI document of the server, at /openapi.json and in docs/openapi.json."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import ConfigDict, TypeAdapter

from headwater.attribution.answer import answer_schema
from headwater.base.version import __version__
from headwater.serve.problems import MEDIA_TYPE
from headwater.verify.verification import Verification

SUMMARY = "Which training examples made this language model say that?"
DESCRIPTION = (
    "A question becomes a job: `POST /v1/influences`, then `GET /v1/jobs/{id}` or its events until it is done. The "
    "verification of its answer is a job too. "
    "Errors follow RFC 9457, in `application/problem+json`."
)
REFUSALS = {
    400: "The body cannot be read.",
    401: "The server's token is missing.",
    403: "The request comes from a page of another site, or names another host.",
    404: "Not found.",
    409: "There is no answer (yet).",
    413: "The body is too long.",
    422: "The request is invalid; the detail says what is wrong and how to fix it.",
    429: "The queue is full; Retry-After says after how many seconds to try again.",
    500: "Internal error of the server; its log says more.",
    503: "The run is still loading, could not be loaded, or the server is stopping.",
}
EVERYWHERE = (401, 403, 500)
WITH_BODY = (400, 413, 422)
QUEUED = (429, 503)


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of an operation: those given, and those that any request may get."""
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
    components["schemas"].update({**_verification(), **_answer()})
    found = [{"$ref": f"#/components/schemas/{name}"} for name in ("Answer", "Verification")]
    components["schemas"]["JobBody"]["properties"]["answer"] |= {"anyOf": [*found, {"type": "null"}]}
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "Where the server was started with a token."}
    }
    document["security"] = [{}, {"token": []}]
    return document


def _answer() -> dict[str, Any]:
    """The schema of an answer (docs/answer.schema.json) and of its parts, as components."""
    schema = answer_schema()
    parts = schema.pop("$defs")
    schema.pop("$schema")
    return _as_components({**parts, "Answer": schema})


def _verification() -> dict[str, Any]:
    """The schema of a verification and of its parts, as components."""
    config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    return _as_components(TypeAdapter(list[Verification], config=config).json_schema()["$defs"])


def _as_components(schemas: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(schemas).replace("#/$defs/", "#/components/schemas/"))
