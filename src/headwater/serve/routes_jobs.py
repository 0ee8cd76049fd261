"""Questions that take their time: asking them, following them, fetching the answer."""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from headwater.serve.exports import EXPORTS, VERIFICATION_EXPORTS, Format
from headwater.serve.jobs import Job
from headwater.serve.limits import LIMITS
from headwater.serve.openapi import QUEUED, WITH_BODY, refusals
from headwater.serve.problems import ProblemError
from headwater.serve.schemas import InfluencesBody, JobBody, VerificationsBody
from headwater.serve.service import Service, TheService
from headwater.serve.tasks import influences, verifications
from headwater.serve.waiting import events, until_over

Wait = Annotated[float, Query(ge=0, le=LIMITS.wait_seconds, description="Seconds to wait for the job to end.")]
LOCATION = {"Location": {"description": "Where the job is.", "schema": {"type": "string"}}}
EVENTS = "`progress` events with the job as it goes on, then one `end`; comments where nothing happens."
JOB_TEXT = {
    "type": "string",
    "contentMediaType": "application/json",
    "contentSchema": {"$ref": "#/components/schemas/JobBody"},
}
EVENT = {
    "type": "object",
    "properties": {"event": {"enum": ["progress", "end"]}, "data": JOB_TEXT},
    "required": ["event", "data"],
}
BINARY = {"type": "string", "format": "binary"}
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}

router = APIRouter(prefix="/v1", tags=["questions"])


def _responses(queued: str, over: str) -> dict[int | str, dict[str, Any]]:
    """Of an address that begins a job."""
    return {
        202: {"description": queued, "headers": LOCATION},
        200: {"description": over, "model": JobBody, "headers": LOCATION},
        **refusals(*WITH_BODY, *QUEUED),
    }


@router.post(
    "/influences",
    status_code=202,
    response_model=JobBody,
    responses=_responses("The question is queued.", "It is answered, or has failed, already."),
)
async def ask(body: InfluencesBody, request: Request, service: TheService, wait: Wait = 0.0) -> Response:
    """Which training examples made the model say it?

    The answer to a question that was answered before is there at once.
    """
    return await _begun(service, service.enter("influences", influences(body), _key(body)), request, wait=wait)


@router.post(
    "/verifications",
    status_code=202,
    response_model=JobBody,
    responses=_responses("The verification is queued.", "It is done, or has failed, already."),
)
async def verify(body: VerificationsBody, request: Request, service: TheService, wait: Wait = 0.0) -> Response:
    """Does the model do what the answer to a question predicts of single examples?

    A verification that was done before is there at once.
    """
    work = verifications(body, partial(service.kept, _key(body.question)))
    return await _begun(service, service.enter("verifications", work, _key(body)), request, wait=wait)


@router.get("/jobs/{id}", response_model=JobBody, responses=refusals(404, 422))
async def job(id: str, request: Request, service: TheService, wait: Wait = 0.0) -> Response:
    """How far a question is, and its answer once it is done."""
    found = service.job(id)
    await until_over(found, request, wait)
    return _job(service, found)


@router.delete("/jobs/{id}", response_model=JobBody, responses=refusals(404, 422))
async def cancel(id: str, service: TheService) -> Response:
    """Cancel a question: at once while it is queued, else after the batch under way. One that is over stays so."""
    found = service.job(id)
    service.worker.cancel(found)
    return _job(service, found)


@router.get(
    "/jobs/{id}/events",
    response_class=StreamingResponse,
    responses={
        200: {"description": EVENTS, "content": {"text/event-stream": {"itemSchema": EVENT}}},
        **refusals(404, 422),
    },
)
async def job_events(id: str, service: TheService) -> Response:
    """Follow a question as server-sent events; every one carries the job without its answer."""
    found = service.job(id)
    told = partial(service.told, with_answer=False)
    return StreamingResponse(events(found, told), headers=STREAM_HEADERS, media_type="text/event-stream")


def _contents() -> dict[str, Any]:
    answer = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in ("Answer", "Verification")]}
    return {export.media_type: {"schema": answer if format == "json" else BINARY} for format, export in EXPORTS.items()}


@router.get(
    "/jobs/{id}/answer",
    response_class=Response,
    responses={200: {"description": "The answer as a file.", "content": _contents()}, **refusals(404, 409, 422)},
)
async def job_answer(id: str, service: TheService, format: Format = "json") -> Response:
    """Download an answer, or a verification, which comes as JSON or as a page."""
    found = service.job(id)
    if found.status.state != "done":
        raise ProblemError(409, f"This question has no answer: it is {found.status.state}.")
    exports, name = (VERIFICATION_EXPORTS, "verification") if found.kind == "verifications" else (EXPORTS, "answer")
    export = exports.get(format)
    if export is None:
        raise ProblemError(422, f"A {name} does not come as {format}, only as {' or '.join(exports)}.")
    content = await asyncio.to_thread(export.write, found.result.json)
    return Response(content, headers=export.headers(format, name), media_type=export.media_type)


def _key(body: BaseModel) -> str:
    """The same for the same work."""
    return hashlib.sha256(body.model_dump_json().encode()).hexdigest()


async def _begun(service: Service, job: Job, request: Request, *, wait: float) -> Response:
    """The job after at most `wait` seconds; it is dropped where the caller goes away while it is queued."""
    if not await until_over(job, request, wait) and job.status.state == "queued":
        service.worker.cancel(job)
    return _job(service, job, 200 if job.status.over else 202, headers={"Location": job.path})


def _job(service: Service, job: Job, status: int = 200, *, headers: dict[str, str] | None = None) -> Response:
    return Response(service.told(job), status, headers, "application/json")
