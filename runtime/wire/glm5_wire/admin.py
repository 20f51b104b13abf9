"""The plain-HTTP admin port of every role: probes, metrics, state."""

import asyncio
from collections.abc import Callable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from glm5_spec.admin import RoleState
from glm5_wire.heartbeat import Heartbeat
from glm5_wire.http_server import HttpServer
from glm5_wire.metrics import gauge

TASKS = gauge("glm5_asyncio_tasks", "Tasks of the event loop when the page was asked for.")
IN_FLIGHT = gauge("glm5_requests_in_flight", "Requests, runs or batches that are queued or running.")

MAX_SILENCE_SECONDS = 60.0
"""A loop without a heartbeat for this long is not live any more."""


class AdminServer(HttpServer):
    """Serves `/startupz`, `/readyz`, `/livez`, `/metrics` and `/v1/state`.

    Args:
        host: address to listen on.
        port: 0 takes a free one.
        state: returns the state of now.
        heartbeat: of the event loop.
        metrics: what `/metrics` shows.
    """

    def __init__(
        self,
        host: str,
        port: int,
        state: Callable[[], RoleState],
        heartbeat: Heartbeat,
        metrics: CollectorRegistry,
    ) -> None:
        super().__init__(self._app(), host, port, "admin")
        self._state, self._heartbeat, self._metrics = state, heartbeat, metrics

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/startupz", self._startupz),
                Route("/readyz", self._readyz),
                Route("/livez", self._livez),
                Route("/metrics", self._show_metrics),
                Route("/v1/state", self._show_state),
            ]
        )

    async def _startupz(self, request: Request) -> Response:
        state = self._state()
        return _probe(state.started, state.reason or "starting")

    async def _readyz(self, request: Request) -> Response:
        state = self._state()
        return _probe(
            state.ready and not state.draining, state.reason or ("draining" if state.draining else "not ready")
        )

    async def _livez(self, request: Request) -> Response:
        age = self._heartbeat.age()
        return _probe(age < MAX_SILENCE_SECONDS, f"no heartbeat for {age:.0f} s")

    async def _show_metrics(self, request: Request) -> Response:
        TASKS.set(len(asyncio.all_tasks()))
        IN_FLIGHT.set(self._state().in_flight)
        return Response(generate_latest(self._metrics), media_type=CONTENT_TYPE_LATEST)

    async def _show_state(self, request: Request) -> Response:
        return JSONResponse(self._state().model_dump(mode="json"))


def _probe(good: bool, reason: str) -> Response:
    return PlainTextResponse("ok" if good else reason, 200 if good else 503)
