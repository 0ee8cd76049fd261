"""The server as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST

from headwater.runs.run import Run
from headwater.serve import routes_jobs, routes_model
from headwater.serve.guard import Guard
from headwater.serve.metrics import Measured
from headwater.serve.openapi import describe_api, refusals
from headwater.serve.page import page_routes
from headwater.serve.problems import Failsafe, handle_problems
from headwater.serve.schemas import Health
from headwater.serve.service import Service, TheService
from headwater.serve.settings import Settings

health = APIRouter(tags=["health"])


def create_app(run: str | Path | Callable[[], Run], settings: Settings = Settings()) -> FastAPI:
    """The API and the page over a run, given as its directory or as what opens it.

    The run is loaded in a thread once the app has started; /readyz says when it is there.
    """
    service = Service(run if callable(run) else lambda: Run.open(run), settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.worker.start()
        try:
            yield
        finally:
            await asyncio.to_thread(service.worker.close)

    app = FastAPI(
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.service = service
    for router in (routes_jobs.router, routes_model.router, health):
        app.include_router(router)
    app.router.routes.extend(page_routes())
    handle_problems(app)
    app.openapi = lambda: describe_api(app)
    # The last one added is the outermost.
    app.add_middleware(Failsafe)
    app.add_middleware(Guard, settings=settings)
    app.add_middleware(Measured, metrics=service.metrics)
    return app


@health.get("/livez", response_model=Health, responses=refusals())
async def livez() -> Health:
    """The server is alive."""
    return Health(status="alive")


@health.get("/readyz", response_model=Health, responses=refusals(503))
async def readyz(service: TheService) -> Health:
    """The run is loaded."""
    service.ready()
    return Health(status="ready")


@health.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}}, **refusals()},
)
async def metrics(service: TheService) -> Response:
    """For Prometheus."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
