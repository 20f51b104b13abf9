"""The gRPC server of a role: standard health, reflection, explicit limits, error and trace interceptors."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from glm5_wire.interceptors import Interceptor
from glm5_wire.limits import MAX_CONCURRENT_STREAMS, Options, keepalive, messages

Register = Callable[[Any], None]
"""Adds a servicer to a server, as the generated `add_X_to_server(servicer, server)` do."""


class RpcServer:
    """A gRPC server that is filled with `add` and then started.

    Args:
        host: address to listen on.
        port: 0 takes a free one.
        detection_seconds: a silent client's streams end after this long.
        socket: path of a Unix socket to listen on besides, and to tell peers; None for TCP alone.
        told_host: host that peers are told; None means `host`.
        age_seconds: a connection of this age takes no new calls, and its client opens another one; what runs on it goes
            on. So clients find new servers behind a Service, and leave one that drains. None: it lives for ever.
    """

    def __init__(
        self,
        host: str,
        port: int,
        detection_seconds: float,
        socket: str | None = None,
        told_host: str | None = None,
        age_seconds: float | None = None,
    ) -> None:
        self._host, self._port, self._socket, self._told_host = host, port, socket, told_host or host
        options = _options(detection_seconds) + _age(age_seconds)
        self._server = grpc.aio.server(interceptors=[Interceptor()], options=options)
        self._health = health.aio.HealthServicer()
        self._names: list[str] = [reflection.SERVICE_NAME, health.SERVICE_NAME]
        self.address = ""
        """Address for peers (`host:port` or `unix:path`); empty before `start`."""
        self.tcp_address = ""
        """`host:port`, whatever peers are told; empty before `start`."""

    def add(self, register: Register) -> None:
        """Add a service, for example `add(partial(add_PeerServiceServicer_to_server, servicer))`."""
        register(_NameRecorder(self._server, self._names))

    async def start(self) -> str:
        """Listen, and return the address for peers.

        Raises:
            RuntimeError: the port or the socket is taken.
        """
        self.add(lambda server: health_pb2_grpc.add_HealthServicer_to_server(self._health, server))
        reflection.enable_server_reflection(tuple(dict.fromkeys(self._names)), self._server)
        port = self._server.add_insecure_port(f"{_bracketed(self._host)}:{self._port}")
        self.tcp_address = self.address = f"{_bracketed(self._told_host)}:{port}"
        if self._socket:
            self._server.add_insecure_port(f"unix:{self._socket}")
            self.address = f"unix:{self._socket}"
        await self._server.start()
        return self.address

    async def set_serving(self, serving: bool) -> None:
        """Answer health checks with SERVING or NOT_SERVING, for the server and each of its services."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, status)

    async def stop(self, grace: float) -> None:
        """Refuse new calls, let running ones go on for `grace` seconds, then cancel them; returns in any case."""
        # A handler that swallows its cancellation would hold the server open for ever.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._server.stop(grace), grace + 5.0)


class _NameRecorder:
    """Passes registrations on to a server and notes the services' names, for health and reflection."""

    def __init__(self, server: grpc.aio.Server, names: list[str]) -> None:
        self._server, self._names = server, names

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self._names += [handler.service_name() for handler in handlers if handler.service_name() not in self._names]
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service_name: str, handlers: Any) -> None:
        self._server.add_registered_method_handlers(service_name, handlers)


def _options(detection_seconds: float) -> Options:
    return [
        *messages(),
        *keepalive(detection_seconds),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 50),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.max_concurrent_streams", MAX_CONCURRENT_STREAMS),
        # Two processes on one port would share its connections in silence.
        ("grpc.so_reuseport", 0),
    ]


def _age(seconds: float | None) -> Options:
    # GOAWAY; without a grace period calls that run are left alone.
    return [] if seconds is None else [("grpc.max_connection_age_ms", int(seconds * 1000))]


def _bracketed(host: str) -> str:
    """Return `host` in brackets where it is an IPv6 address."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
