"""The API's description of itself, at /openapi.json and in docs/openapi.json."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import ConfigDict, TypeAdapter

from headwater.attribution.answer import answer_schema
from headwater.base.version import __version__
from headwater.serve.problems import MEDIA_TYPE
from headwater.verify.comparison import Comparison

SUMMARY = "Which training examples made this language model say that?"
DESCRIPTION = (
    "A question becomes a job: `POST /v1/influences`, then `GET /v1/jobs/{id}` or its events until it is done; and so "
    "does the verification of its answer. "
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
    """The schema of what a verification found and of its parts, as components."""
    config = ConfigDict(extra="forbid", use_attribute_docstrings=True)
    # As with an answer, the docstrings are those of the class that the fields are written in.
    parts = TypeAdapter(list[Comparison], config=config).json_schema()["$defs"]
    parts["Verification"] = parts.pop("Comparison") | {"title": "Verification"}
    return _as_components(parts)


def _as_components(schemas: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(schemas).replace("#/$defs/", "#/components/schemas/"))
