"""The HTTP port for clients."""

from starlette.types import ASGIApp

from glm5_wire.http_server import HttpServer

_HEADER_BYTES = 16 << 10
_IDLE_SECONDS = 75


def listener(host: str, port: int, app: ASGIApp) -> HttpServer:
    """Return the server of `app` at `host`; port 0 takes a free one."""
    return HttpServer(
        app,
        host,
        port,
        "HTTP",
        http="h11",
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        timeout_keep_alive=_IDLE_SECONDS,
    )
