"""Questions that are answered while the caller waits: the run, its examples, what the model says."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from headwater.attribution.answer import Query, TokenMap
from headwater.runs.run import Run
from headwater.serve.openapi import QUEUED, WITH_BODY, refusals
from headwater.serve.problems import ProblemError
from headwater.serve.schemas import DescribeBody, ExampleBody, GenerateBody, RunBody, TokensBody
from headwater.serve.service import Service, TheService
from headwater.serve.tasks import describe_query, generate, token_map

router = APIRouter(prefix="/v1")


@router.get("/run", response_model=RunBody, responses=refusals(503), tags=["run"])
async def run(service: TheService) -> RunBody:
    """What is being asked: the model, its corpus, the curvature and the index."""
    return service.ready()[1]


@router.get("/examples/{id:path}", response_model=ExampleBody, responses=refusals(404, 422, 503), tags=["run"])
async def example(id: str, service: TheService) -> ExampleBody:
    """One training example."""
    opened, _ = service.ready()
    _require_example(opened, id)
    return await asyncio.to_thread(_read, service, opened, id)


@router.post(
    "/generate",
    response_model=Query,
    responses=refusals(*WITH_BODY, *QUEUED),
    tags=["model"],
)
async def generate_text(body: GenerateBody, request: Request, service: TheService) -> Response:
    """What the model says after a prompt."""
    return await service.now("generate", generate(body), request)


@router.post("/queries", response_model=Query, responses=refusals(*WITH_BODY, *QUEUED), tags=["model"])
async def describe(body: DescribeBody, request: Request, service: TheService) -> Response:
    """The tokens of a prompt and completion: the surprisal of each, and which are explained."""
    return await service.now("queries", describe_query(body), request)


@router.post("/tokens", response_model=TokenMap, responses=refusals(*WITH_BODY, 404, *QUEUED), tags=["model"])
async def tokens(body: TokensBody, request: Request, service: TheService) -> Response:
    """Which tokens of an example, or of a text, pushed which tokens of a question."""
    if body.example is not None:
        _require_example(service.ready()[0], body.example)
    return await service.now("tokens", token_map(body), request)


def _require_example(run: Run, id: str) -> None:
    if id not in run.corpus.position:
        raise ProblemError(404, f"No example of this run has the id {id!a}.")


def _read(service: Service, run: Run, id: str) -> ExampleBody:
    with service.reading:
        found = run.example(id)
    return ExampleBody(id=found.id, text=found.text, tokens=found.pieces, source=found.source, metadata=found.metadata)
