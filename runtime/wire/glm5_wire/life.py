"""The life of a role process: start, serve, drain, stop. Every `python -m glm5_X` runs through here."""

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from glm5.v1 import peer_pb2 as pb
from glm5_spec.admin import RoleState
from glm5_spec.settings import RoleSettings, SettingsError, load_settings
from glm5_wire import metrics
from glm5_wire.admin import AdminServer
from glm5_wire.errors import StartupError
from glm5_wire.heartbeat import Heartbeat
from glm5_wire.logs import start_logging
from glm5_wire.registry import PeerRegistry
from glm5_wire.roles import NUMBERS, WANTS
from glm5_wire.server import RpcServer
from glm5_wire.tracing import start_tracing

log = logging.getLogger(__name__)

S = TypeVar("S", bound=RoleSettings)

_LOOK_SECONDS = 1.0
"""How often a process that serves looks whether it still is ready; one that does not yet looks ten times as often."""
_CONNECTION_SECONDS = 20.0
"""Age of a gRPC connection to a gateway at which its client makes a new one: to another gateway, where one has come."""


class RoleService(Protocol):
    """What a role does between start and stop. Its constructor adds its gRPC services to `life.server`."""

    async def start(self) -> None:
        """Load and begin; the gRPC server and the registry run already. Raises StartupError."""

    def state(self) -> RoleState:
        """Return the state of now; build it with `life.state(...)`."""

    def describe(self, peer: pb.Peer) -> None:
        """Fill in what peers are told beyond identity, `ready` above all; asked often, must be cheap."""

    async def drain(self, seconds: float) -> None:
        """Take no new work and return once the running work has ended, after `seconds` at the latest."""

    async def stop(self) -> None:
        """Close what is left."""


class Life:
    """What a role service is given: identity, server, registry, heartbeat."""

    def __init__(self, settings: RoleSettings) -> None:
        self.settings = settings
        self.incarnation = uuid.uuid4().hex[:12]
        self.beat = Heartbeat()
        self.draining = False
        self.last_error = ""
        self.service: RoleService | None = None
        self.progress: Callable[[], int] = lambda: self.beat.count
        """Counter sent to watchers; a role with a step thread replaces it by that thread's."""
        self.server = RpcServer(
            settings.host,
            settings.grpc_port,
            settings.detection_seconds,
            socket_path(settings),
            settings.told_host,
            _CONNECTION_SECONDS if settings.role == "gateway" else None,
        )
        wants = {NUMBERS[role] for role in WANTS[settings.role]}
        self.registry = PeerRegistry(settings, self.peer, wants, lambda: self.progress())
        self.registry.register(self.server)
        self.ended = asyncio.Event()
        self.failed = False

    def peer(self) -> pb.Peer:
        """Return our own description."""
        settings = self.settings
        peer = pb.Peer(
            deployment=settings.deployment,
            role=NUMBERS[settings.role],
            name=settings.name,
            incarnation=self.incarnation,
            role_revision=settings.role_revision,
            address=self.server.address,
            draining=self.draining,
        )
        if self.service is not None:
            self.service.describe(peer)
        return peer

    def state(self, **fields: Any) -> RoleState:
        """Return the state with identity, peers and memory filled in; `fields` are the role's own."""
        settings = self.settings
        common: dict[str, Any] = {
            "deployment": settings.deployment,
            "role": settings.role,
            "name": settings.name,
            "incarnation": self.incarnation,
            "role_revision": settings.role_revision,
            "grpc_address": self.server.address,
            "draining": self.draining,
            "last_error": self.last_error,
            "peers": self.registry.all_peers(),
            "memory_bytes": _resident_bytes(),
        }
        return RoleState(**(common | fields))

    def fail(self, message: str) -> None:
        """End the process with exit code 1: something broke that a restart may heal."""
        log.error("failed: %s", message)
        self.last_error, self.failed = message, True
        self.ended.set()

    def current(self) -> RoleState:
        """Return the service's state, or that of a process which is not built yet."""
        return self.service.state() if self.service else self.state(started=False, ready=False, reason="starting")


def socket_path(settings: RoleSettings) -> str | None:
    """Return the path of the Unix socket of a process, where its settings name a folder for them."""
    folder = settings.socket_dir
    return str(Path(folder) / f"{settings.name}.sock") if folder else None


def role_main(kind: type[S], build: Callable[[S, Life], RoleService]) -> int:
    """Read `--settings FILE`, run the role and return the exit code: what each role's `__main__` calls."""
    parser = argparse.ArgumentParser(description="One process of glm5-serve.")
    parser.add_argument("--settings", required=True, help="JSON file with the settings of this process")
    arguments = parser.parse_args()
    try:
        settings = load_settings(kind, arguments.settings)
    except SettingsError as error:
        return _refused(error)
    return run_role(settings, lambda life: build(settings, life))


def run_role(settings: RoleSettings, build: Callable[[Life], RoleService]) -> int:
    """Run a role until SIGTERM, SIGINT or failure.

    Returns:
        The exit code: 0 after a signal, 1 after `life.fail`, 2 where it could not start (said on stderr in one line).
    """
    start_logging(settings)
    _yield_seldom()
    provider = start_tracing(settings)
    try:
        return asyncio.run(_live(settings, build))
    except StartupError as error:
        return _refused(error)
    finally:
        if provider is not None:
            provider.shutdown()


def _yield_seldom() -> None:
    """Keep whom we wake from interrupting us: a process computes on, and its next message leaves, before a peer runs.

    Three percent more tokens a second where processes outnumber the cores (docs/benchmarks.md).
    """
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


async def _live(settings: RoleSettings, build: Callable[[Life], RoleService]) -> int:
    """Start, wait for the end, drain, stop."""
    life = Life(settings)
    heart = asyncio.create_task(life.beat.run(), name="heartbeat")
    admin = AdminServer(settings.host, settings.admin_port, life.current, life.beat, metrics.REGISTRY)
    signals = _catch_signals(life)
    try:
        await admin.start()
        life.service = build(life)
        await _listen(life)
        log.info("listening grpc=%s admin=%s:%d", life.server.address, settings.host, admin.port)
        await _serve(life)
        if not life.failed:
            await _drain(life, signals)
    finally:
        await _close(life, admin)
        heart.cancel()
    return 1 if life.failed else 0


async def _listen(life: Life) -> None:
    try:
        await life.server.start()
    except (RuntimeError, OSError) as error:
        port = f"{life.settings.host}:{life.settings.grpc_port}"
        raise StartupError(f"gRPC port {port}: {error}; free it or set grpc_port") from error
    await life.registry.start()


async def _serve(life: Life) -> None:
    """Start the service and wait for a signal or a failure, also while it is still loading."""
    assert life.service is not None
    start = asyncio.create_task(life.service.start(), name="start")
    ended = asyncio.create_task(life.ended.wait(), name="ended")
    health = asyncio.create_task(_follow_health(life), name="health")
    try:
        await asyncio.wait({start, ended}, return_when=asyncio.FIRST_COMPLETED)
        if start.done():
            start.result()
            # What is loaded stays: the collector need not walk over it again and again.
            gc.collect()
            gc.freeze()
            life.registry.notify()
            await ended
    finally:
        for task in (start, ended, health):
            task.cancel()
        await asyncio.gather(start, ended, health, return_exceptions=True)


async def _follow_health(life: Life) -> None:
    """Keep the standard health service and the watchers at what the state says."""
    before: tuple[bool, bool] | None = None
    while True:
        state = life.current()
        now = (state.ready and not life.draining, life.draining)
        if now != before:
            await life.server.set_serving(now[0])
            life.registry.notify()
            before = now
        # A state is dear where there are many processes on few cores, and who serves seldom stops to.
        await asyncio.sleep(_LOOK_SECONDS if now[0] else _LOOK_SECONDS / 10)


async def _drain(life: Life, signals: list[int]) -> None:
    """Announce the leave and let running work end; a second signal ends the patience."""
    assert life.service is not None
    seconds = life.settings.drain_seconds
    in_flight = life.current().in_flight
    life.draining = True
    life.registry.notify()
    await life.server.set_serving(False)
    # Who looks for what a leaving process cut short finds here what it had.
    log.info("draining seconds=%g in_flight=%d", seconds, in_flight)
    drain = asyncio.create_task(life.service.drain(seconds), name="drain")
    while not drain.done() and len(signals) < 2:
        await asyncio.wait({drain}, timeout=0.1)
    if drain.done():
        drain.result()
    else:
        drain.cancel()
        await asyncio.gather(drain, return_exceptions=True)


async def _close(life: Life, admin: AdminServer) -> None:
    """Close everything, whatever fails on the way."""
    steps: list[Callable[[], Any]] = [lambda: life.server.stop(0.5), life.registry.stop, admin.stop]
    if life.service is not None:
        steps.insert(0, life.service.stop)
    for step in steps:
        try:
            await step()
        except Exception:
            log.exception("stopping failed; going on")
    if path := socket_path(life.settings):
        with contextlib.suppress(OSError):
            os.unlink(path)
    log.info("stopped")


def _catch_signals(life: Life) -> list[int]:
    """End the life at SIGTERM and SIGINT; return the list of those that came."""
    came: list[int] = []
    loop = asyncio.get_running_loop()

    def note(number: int) -> None:
        came.append(number)
        life.ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, note, number)
    return came


def _refused(error: Exception) -> int:
    print(f"glm5: {error}", file=sys.stderr)  # noqa: T201 - the promise is a plain line on stderr
    return 2


def _resident_bytes() -> int:
    """Return the resident set of this process."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0  # not Linux: unknown
    return pages * os.sysconf("SC_PAGE_SIZE")
