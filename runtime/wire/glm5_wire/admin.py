"""The plain-HTTP admin port of every role: probes, metrics, state."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterator

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from glm5_spec.admin import RoleState
from glm5_wire.errors import StartupError
from glm5_wire.heartbeat import Heartbeat
from glm5_wire.metrics import gauge

TASKS = gauge("glm5_asyncio_tasks", "Tasks of the event loop when the page was asked for.")
IN_FLIGHT = gauge("glm5_requests_in_flight", "Requests, runs or batches that are queued or running.")

MAX_SILENCE_SECONDS = 60.0
"""A loop without a heartbeat for this long is not live any more."""


class AdminServer:
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
        self._host, self._port = host, port
        self._state, self._heartbeat, self._metrics = state, heartbeat, metrics
        self._server: _Uvicorn | None = None
        self._task: asyncio.Task[None] | None = None
        self.port = 0
        """Where it listens; 0 before `start`."""

    async def start(self) -> None:
        """Listen.

        Raises:
            StartupError: the port is taken.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            sock = socket.create_server((self._host, self._port), family=family, backlog=128)
        except OSError as error:
            where = f"{self._host}:{self._port}"
            raise StartupError(
                f"admin port {where}: {os.strerror(error.errno or 0)}; free it or set admin_port"
            ) from error
        self.port = sock.getsockname()[1]
        config = uvicorn.Config(self._app(), lifespan="off", log_config=None, access_log=False, ws="none")
        self._server = _Uvicorn(config)
        self._task = asyncio.create_task(self._server.serve([sock]), name="admin")

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = self._server.force_exit = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._task, 5.0)

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


class _Uvicorn(uvicorn.Server):
    """uvicorn that leaves signals to `life`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _probe(good: bool, reason: str) -> Response:
    return PlainTextResponse("ok" if good else reason, 200 if good else 503)
