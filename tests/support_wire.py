"""Roles reduced to their registry, on real gRPC servers in the test's process; and waiting for causes."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from glm5.v1 import peer_pb2 as pb
from glm5_spec.settings import Discovery, RoleName, RoleSettings
from glm5_wire.registry import PeerRegistry
from glm5_wire.roles import NUMBERS, WANTS
from glm5_wire.server import RpcServer

PATIENCE_SECONDS = 180.0
NO_DISCOVERY = Discovery()


class Process:
    """A role reduced to its registry: what the tests look at."""

    def __init__(self, role: RoleName, name: str, discovery: Discovery, deployment: str, port: int, host: str) -> None:
        self.settings = RoleSettings(
            role=role, name=name, discovery=discovery, deployment=deployment, detection_seconds=2.0
        )
        self.server = RpcServer(host, port, 2.0)
        self.peer = pb.Peer(
            role=NUMBERS[role], name=name, deployment=deployment, incarnation=f"{name}-{id(self)}", ready=True
        )
        self.registry = PeerRegistry(self.settings, self._describe, {NUMBERS[wanted] for wanted in WANTS[role]})
        self.registry.register(self.server)

    def _describe(self) -> pb.Peer:
        peer = pb.Peer()
        peer.CopyFrom(self.peer)
        peer.address = self.server.address
        return peer

    def names(self, role: RoleName) -> list[str]:
        return [handle.peer.name for handle in self.registry.peers(NUMBERS[role])]


@asynccontextmanager
async def process(
    role: RoleName,
    name: str,
    discovery: Discovery = NO_DISCOVERY,
    deployment: str = "d",
    port: int = 0,
    host: str = "127.0.0.1",
) -> AsyncIterator[Process]:
    made = Process(role, name, discovery, deployment, port, host)
    await made.server.start()
    await made.registry.start()
    try:
        yield made
    finally:
        await made.registry.stop()
        await made.server.stop(0)


async def until(condition: Callable[[], bool], what: Callable[[], object] = lambda: "") -> None:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():  # noqa: ASYNC110 - what is waited for happens in other processes too
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"did not happen in {PATIENCE_SECONDS} s; now: {what()}")


def listing(path: Path, *pairs: tuple[str, str]) -> Discovery:
    path.write_text(json.dumps({"peers": [{"role": role, "address": address} for role, address in pairs]}))
    return Discovery(file=str(path), refresh_seconds=0.1)
