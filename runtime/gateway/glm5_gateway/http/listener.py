"""The HTTP server on its port."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from glm5_wire.errors import StartupError

_HEADER_BYTES = 16 << 10
_IDLE_SECONDS = 75


class Listener:
    """Serves an application.

    Args:
        host: address to listen on.
        port: 0 takes a free one.
        app: what to serve.
    """

    def __init__(self, host: str, port: int, app: ASGIApp) -> None:
        self._host, self._port = host, port
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=_HEADER_BYTES,
            timeout_keep_alive=_IDLE_SECONDS,
        )
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
            sock = socket.create_server((self._host, self._port), family=family, backlog=2048)
        except OSError as error:
            where = f"{self._host}:{self._port}"
            raise StartupError(f"HTTP port {where}: {error.strerror}; free it or set http_port") from error
        self.port = sock.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve([sock]), name="http")

    async def stop(self, seconds: float) -> None:
        """Close the port, give answers that are on their way `seconds`, then close every connection."""
        if self._task is None:
            return
        self._server.should_exit = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._task), seconds)
        self._server.force_exit = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._task, 5.0)


class _Uvicorn(uvicorn.Server):
    """uvicorn that leaves signals to the role's life."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
