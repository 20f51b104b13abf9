"""One address under observation: who answers there, and whether it may be used. Owned by the registry."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

import grpc.aio

from glm5.v1 import peer_pb2 as pb
from glm5.v1 import peer_service_pb2 as messages
from glm5.v1 import peer_service_pb2_grpc as rpc
from glm5_spec.admin import PeerState
from glm5_spec.settings import RoleName, RoleSettings
from glm5_wire.channel import open_channel
from glm5_wire.errors import ServiceError, Unavailable, from_rpc_error
from glm5_wire.roles import NAMES

log = logging.getLogger(__name__)

STALL_FACTOR = 5
"""A progress counter may stand still for this many detection times before its process counts as hung: a step may be
longer than a detection time, a silent connection may not."""

DRAINING = "is draining"
_TOLD, _NOT_READY = "not needed by this role", "is not ready"

_PAUSE_SECONDS = 0.2


class PeerHandle:
    """One incarnation of a peer: a restarted process has a new handle.

    Attributes:
        peer: its latest description.
        address: where it is.
        channel: to it; lent, never to be closed.
    """

    __slots__ = ("address", "channel", "peer")

    def __init__(self, peer: pb.Peer, address: str, channel: grpc.aio.Channel) -> None:
        self.peer, self.address, self.channel = peer, address, channel

    def __repr__(self) -> str:
        return f"PeerHandle({self.peer.name}@{self.address})"


class Watcher:
    """Watches one address for as long as it runs, through deaths and restarts.

    Args:
        address: where to look.
        role: who should be there, as the source says.
        settings: ours.
        ours: returns our own description.
        announce: introduce ourselves to each new incarnation.
        watch: look at it; else it is only told about us, until it has heard.
        changed: called after each change of state or description.
    """

    def __init__(
        self,
        address: str,
        role: RoleName,
        settings: RoleSettings,
        ours: Callable[[], pb.Peer],
        announce: bool,
        watch: bool,
        changed: Callable[[], None],
    ) -> None:
        self.address, self.role, self._settings = address, role, settings
        self._ours, self._announce, self._watch, self._changed = ours, announce, watch, changed
        self._channel = open_channel(address, settings.detection_seconds)
        self._stub = rpc.PeerServiceStub(self._channel)
        self._woken = asyncio.Event()
        self._call: grpc.aio.Call | None = None
        self._announced_to = ""
        self._progress, self._progress_at = -1, 0.0
        self.handle: PeerHandle | None = None
        self.reason = "not looked at yet"
        """Why the peer may not be used; empty when it may."""
        self.tried = False
        """Whether one look has ended, well or badly."""
        self.alive_at = time.monotonic()
        """When the last sign of life came (or the watch began)."""

    @property
    def usable(self) -> bool:
        """Return whether work may be sent there."""
        return not self.reason and self.handle is not None

    @property
    def leaving(self) -> bool:
        """Return whether it drains: it takes work only from those who know nobody else."""
        return self.reason == DRAINING and self.handle is not None and self.handle.peer.ready

    @property
    def told(self) -> bool:
        """Return whether the peer has heard our announcement, or cannot hear it now, or need not."""
        return not self._announce or bool(self._announced_to) or (self.tried and bool(self.reason))

    def state(self) -> PeerState:
        """Return what `/v1/state` says of it."""
        peer = self.handle.peer if self.handle else pb.Peer()
        role = NAMES.get(peer.role, self.role)
        return PeerState(
            role=role,
            name=peer.name,
            address=self.address,
            incarnation=peer.incarnation,
            compat=peer.compat,
            usable=self.usable,
            reason=self.reason,
        )

    def look_again(self, reason: str) -> None:
        """Use it no more until it has answered once more, and ask at once."""
        if self.usable:
            self._set(reason)
        if self._call is not None:
            self._call.cancel()
        self._woken.set()

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            while True:
                pause = await self._look()
                self._woken.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._woken.wait()
        finally:
            await self._channel.close()

    async def _look(self) -> float:
        """Look until it fails or nothing is left to do; return the pause in seconds before the next look."""
        try:
            if not self._watch:
                await self._introduce(pb.Peer(incarnation="told"))
                self._set(_TOLD)
                return self._settings.discovery.refresh_seconds
            await self._follow()
        except grpc.aio.AioRpcError as error:
            self._set(str(from_rpc_error(error, self.address)))
        except ServiceError as error:
            self._set(str(error))
        except TimeoutError:
            self._set(f"no sign of life for {self._settings.detection_seconds:g} s")
        except asyncio.CancelledError:
            # Ours, when the registry stops, or that of a call which `look_again` cancelled.
            _raise_if_cancelled()
        except Exception as error:
            log.exception("watch failed address=%s", self.address)
            self._set(f"watch failed: {error}")
        finally:
            self.tried = True
        _raise_if_cancelled()
        return _PAUSE_SECONDS

    async def _follow(self) -> None:
        """Follow the descriptions of one connection."""
        call = self._call = self._stub.Watch(messages.WatchRequest())
        try:
            while True:
                # Not wait_for: Python 3.11's loses a cancellation that comes together with the call's end.
                async with asyncio.timeout(self._settings.detection_seconds):
                    message = await call.read()
                if not isinstance(message, messages.WatchResponse):
                    await call.code()
                    raise Unavailable("watch ended", self.address, "the peer closed it", "it is asked again")
                self._see(message)
                await self._introduce(message.peer)
        finally:
            self._call = None
            call.cancel()

    def _see(self, message: messages.WatchResponse) -> None:
        """Take over one description."""
        peer, old = message.peer, self.handle
        self.alive_at = now = time.monotonic()
        if message.progress != self._progress:
            self._progress, self._progress_at = message.progress, now
        fresh = old is None or old.peer.incarnation != peer.incarnation
        differs = old is None or old.peer != peer
        if old is None or fresh:
            self.handle = PeerHandle(peer, self.address, self._channel)
        elif differs:
            old.peer = peer
        self.tried = True
        self._set(self._judge(peer, now), differs)

    def _judge(self, peer: pb.Peer, now: float) -> str:
        """Return why `peer` may not be used; empty when it may."""
        if peer.deployment != self._settings.deployment:
            return f"belongs to deployment {peer.deployment}, not {self._settings.deployment}"
        if peer.incarnation == self._ours().incarnation:
            return "is this process itself"
        if peer.role and NAMES.get(peer.role) != self.role:
            return f"has the role {NAMES.get(peer.role)}, not {self.role}"
        if peer.draining:
            return DRAINING
        if not peer.ready:
            return _NOT_READY
        if now - self._progress_at > STALL_FACTOR * self._settings.detection_seconds:
            return f"makes no progress for {now - self._progress_at:.1f} s"
        return ""

    async def _introduce(self, peer: pb.Peer) -> None:
        """Tell the peer about us, once in each of its incarnations."""
        ours = self._ours()
        if not self._announce or self._announced_to == peer.incarnation or not ours.address:
            return
        request = messages.AnnounceRequest(peer=ours)
        await self._stub.Announce(request, timeout=self._settings.detection_seconds)
        self._announced_to = peer.incarnation

    def _set(self, reason: str, differs: bool = False) -> None:
        """Note the state and tell the registry where something has changed."""
        if reason != self.reason:
            name = self.handle.peer.name if self.handle else "?"
            word = {"": "up", _TOLD: "told about us"}.get(reason, "down")
            # While processes start, most of their peers are not there yet: that is no news.
            is_news = not reason or not self.reason or (self.handle is not None and reason not in (_TOLD, _NOT_READY))
            log.log(logging.INFO if is_news else logging.DEBUG, "peer %s role=%s name=%s address=%s reason=%s",
                    word, self.role, name, self.address, reason)  # fmt: skip
        elif not differs:
            return
        self.reason = reason
        self._changed()


def _raise_if_cancelled() -> None:
    """Go on with a cancellation of this task that a call's own end has covered."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
