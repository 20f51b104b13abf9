"""HTTP on a port of its own: the admin port of every role, and the gateway's port for clients."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from glm5_wire.errors import StartupError

_BACKLOG = 2048
_LAST_SECONDS = 5.0


class HttpServer:
    """Serves an application.

    Args:
        app: what to serve.
        host: address to listen on.
        port: 0 takes a free one.
        name: of the port, "HTTP" or "admin".
        options: of uvicorn.
    """

    def __init__(self, app: ASGIApp, host: str, port: int, name: str, **options: Any) -> None:
        self._host, self._port, self._name = host, port, name
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, ws="none", **options)
        self._server = _Uvicorn(config)
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
            sock = socket.create_server((self._host, self._port), family=family, backlog=_BACKLOG)
        except OSError as error:
            where, why = f"{self._host}:{self._port}", os.strerror(error.errno or 0)
            cure = f"free it or set {self._name.lower()}_port"
            raise StartupError(f"{self._name} port {where}: {why}; {cure}") from error
        self.port = sock.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve([sock]), name=self._name)

    async def stop(self, seconds: float = 0) -> None:
        """Close the port, give answers that are on their way `seconds`, then close every connection."""
        if self._task is None:
            return
        self._server.should_exit = True
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._task), seconds)
        self._server.force_exit = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._task, _LAST_SECONDS)


class _Uvicorn(uvicorn.Server):
    """uvicorn that leaves signals to `life`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
