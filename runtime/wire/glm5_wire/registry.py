"""Who is there: candidates are looked at, and the usable peers of each role are known. One registry in each process."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from glm5.v1 import peer_pb2 as pb
from glm5.v1 import peer_service_pb2_grpc as rpc
from glm5_spec.admin import PeerState
from glm5_spec.settings import RoleName, RoleSettings
from glm5_wire.candidates import Candidates, source_for
from glm5_wire.changes import Changes
from glm5_wire.metrics import gauge
from glm5_wire.peer_service import PeerServicer
from glm5_wire.roles import NAMES, NUMBERS, WANTS, Role
from glm5_wire.watcher import PeerHandle, Watcher

log = logging.getLogger(__name__)

PEERS = gauge(
    "glm5_peers", "Peers of a role that this process knows, by whether work may be sent there.", ["role", "usable"]
)

_FORGET_SECONDS = 30.0
_MAX_CANDIDATES = 4096


class _Registers(Protocol):
    def add(self, register: Callable[[object], None]) -> None: ...


class PeerRegistry:
    """Finds peers and keeps their state.

    Args:
        settings: ours.
        describe: returns our own description; asked often, must be cheap.
        wants: roles whose peers are watched, as numbers of the wire.
        progress: returns a counter that grows while this process is alive.

    Raises:
        StartupError: the discovery settings are wrong.
    """

    def __init__(
        self,
        settings: RoleSettings,
        describe: Callable[[], pb.Peer],
        wants: Iterable[Role],
        progress: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._settings, self._describe, self._progress = settings, describe, progress
        self._wants = {NAMES[role] for role in wants}
        self._source = source_for(settings.discovery)
        self._listed: Candidates = frozenset()
        self._watchers: dict[str, Watcher] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._callbacks: list[Callable[[], None]] = []
        self._described = Changes()
        self._loop_task: asyncio.Task[None] | None = None
        self._listed_once = self._passed = False

    def register(self, server: _Registers) -> None:
        """Add PeerService to an RpcServer."""
        period = min(1.0, self._settings.detection_seconds / 4)
        servicer = PeerServicer(self._describe, self._described, self._progress, self._announced, period)
        server.add(partial(rpc.add_PeerServiceServicer_to_server, servicer))

    async def start(self) -> None:
        """Begin to look; returns at once."""
        self._loop_task = asyncio.create_task(self._refresh_for_ever(), name="registry")

    async def stop(self) -> None:
        """Stop looking and close every channel."""
        tasks = [*self._tasks.values(), *([self._loop_task] if self._loop_task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._watchers.clear()

    def peers(self, role: Role, leaving: bool = False) -> list[PeerHandle]:
        """Return the usable peers of a role (same deployment, alive, ready, not draining), by name.

        Args:
            role: as a number of the wire.
            leaving: return also those that drain.
        """
        name = NAMES[role]
        watchers = [w for w in self._watchers.values() if w.role == name and (w.usable or (leaving and w.leaving))]
        found: dict[str, PeerHandle] = {}
        for handle in (watcher.handle for watcher in watchers):
            # A process may be known by its port and by its Unix socket, which is faster.
            if handle and (handle.peer.incarnation not in found or handle.address.startswith("unix:")):
                found[handle.peer.incarnation] = handle
        return sorted(found.values(), key=lambda handle: (handle.peer.name, handle.address))

    def all_peers(self) -> list[PeerState]:
        """Return every peer that is watched, with the reason where it is not usable."""
        watched = [watcher for watcher in self._watchers.values() if watcher.role in self._wants]
        return [watcher.state() for watcher in sorted(watched, key=lambda watcher: (watcher.role, watcher.address))]

    @property
    def looked(self) -> bool:
        """Return whether one pass is done: the source has answered and each of its candidates was tried once.

        With the first candidates tried that stays so: who comes later, or does not answer, takes no process out of
        service.
        """
        done = self._listed_once and all(watcher.tried for watcher in self._watchers.values())
        self._passed |= done and bool(self._watchers)
        return done or self._passed

    def untold(self, role: Role) -> list[str]:
        """Return the addresses of known processes of `role` that are reachable and have not heard of us yet."""
        return [w.address for w in self._watchers.values() if w.role == NAMES[role] and not w.told]

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each change of any peer's state or description, on the event loop."""
        self._callbacks.append(callback)

    def notify(self) -> None:
        """Send our own changed description to everybody who watches us."""
        self._described.notify()

    def report_failure(self, handle: PeerHandle, error: BaseException | str) -> None:
        """Use `handle` no more until it has answered a fresh look, which is taken at once."""
        watcher = self._watchers.get(handle.address)
        if watcher is not None and watcher.handle is handle:
            watcher.look_again(f"a call failed: {error}")

    async def _refresh_for_ever(self) -> None:
        while True:
            try:
                found = await self._source.look()
                if found is not None:
                    self._listed = found
                self._listed_once = True
                self._add(self._listed)
                self._forget()
            except Exception:
                log.exception("looking for peers failed; known peers stay")
            await asyncio.sleep(self._settings.discovery.refresh_seconds)

    def _add(self, candidates: Iterable[tuple[RoleName, str]]) -> None:
        """Watch each candidate that concerns us and is not watched yet."""
        for role, address in candidates:
            watch, announce = role in self._wants, self._settings.role in WANTS[role]
            known = self._watchers.get(address)
            if known is not None and known.role != role:
                self._drop(address)
            elif known is not None:
                continue
            if (watch or announce) and address != self._describe().address and len(self._watchers) < _MAX_CANDIDATES:
                watcher = Watcher(address, role, self._settings, self._describe, announce, watch, self._changed)
                self._watchers[address] = watcher
                self._tasks[address] = asyncio.create_task(watcher.run(), name=f"watch {address}")

    def _forget(self) -> None:
        """Drop addresses that no source names any more and where nobody has answered for a while."""
        listed = {address for _, address in self._listed}
        horizon = time.monotonic() - _FORGET_SECONDS
        for address, watcher in list(self._watchers.items()):
            if address not in listed and not watcher.usable and watcher.alive_at < horizon:
                self._drop(address)

    def _drop(self, address: str) -> None:
        self._watchers.pop(address)
        self._tasks.pop(address).cancel()
        self._changed()

    def _announced(self, peer: pb.Peer) -> None:
        """Look at a peer that has introduced itself, at once."""
        role = NAMES.get(peer.role)
        if role is None or not peer.address or peer.deployment != self._settings.deployment:
            return
        watcher = self._watchers.get(peer.address)
        if watcher is None or watcher.role != role:
            self._add([(role, peer.address)])
        elif not watcher.usable:
            watcher.look_again("announced itself again")

    def _changed(self) -> None:
        """Count peers and tell everybody who wants to know."""
        for role in self._wants:
            usable = len(self.peers(NUMBERS[role]))
            known = sum(watcher.role == role for watcher in self._watchers.values())
            PEERS.labels(role, "yes").set(usable)
            PEERS.labels(role, "no").set(known - usable)
        for callback in self._callbacks:
            with contextlib.suppress(Exception):
                _called(callback)


def _called(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception:
        log.exception("a callback of the registry failed")
        raise
