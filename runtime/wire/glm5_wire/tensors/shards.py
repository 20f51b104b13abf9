"""The shards that a pool reaches: links to each, opened and closed as the registry says, and the routes over them."""

import asyncio
import logging
from collections.abc import Sequence
from time import monotonic

from glm5.v1 import expert_service_pb2 as pb
from glm5.v1 import peer_pb2
from glm5_wire.registry import PeerRegistry
from glm5_wire.tensors.link import Link, Owner
from glm5_wire.tensors.routes import Routes
from glm5_wire.watcher import PeerHandle

log = logging.getLogger(__name__)

LANES: dict[str, "pb.Lane.ValueType"] = {"decode": pb.LANE_DECODE, "prefill": pb.LANE_PREFILL}


class Shard:
    """A shard and the links to it."""

    def __init__(self, handle: PeerHandle, links: dict["pb.Lane.ValueType", Link]) -> None:
        self.handle, self.links = handle, links
        self.listed = True
        """The registry says that it is there."""

    @property
    def holdings(self) -> Sequence[peer_pb2.ExpertRange]:
        """Return what it holds."""
        return self.handle.peer.holdings

    @property
    def is_open(self) -> bool:
        """Return whether any of its streams is open."""
        return any(link.is_open for link in self.links.values())

    @property
    def covers(self) -> bool:
        """Return whether rows may go there, on every lane."""
        return self.listed and all(link.is_open for link in self.links.values())


class Shards:
    """All shards of our compat.

    Args:
        registry: knows who is there.
        hello: what is said on each stream; the lane is filled in.
        weight_version: that batches expect.
        detection_seconds: a shard that shows no life for this long while work is in flight is given up.
        owner: is told what happens on links.
    """

    def __init__(
        self, registry: PeerRegistry, hello: pb.Hello, weight_version: int, detection_seconds: float, owner: Owner
    ) -> None:
        self._registry, self._hello, self._weight_version = registry, hello, weight_version
        self._detection, self._owner = detection_seconds, owner
        self._shards: dict[int, Shard] = {}
        self._routed: tuple[object, ...] = ()
        self._closing: set[asyncio.Task[None]] = set()
        self._sweeper = asyncio.create_task(self._sweep(), name="experts sweeper")
        self.routes: Routes[Shard] = Routes([])
        registry.on_change(self.sync)
        self.sync()

    def covering(self) -> list[Shard]:
        """Return the shards to which rows may go."""
        return [shard for shard in self._shards.values() if shard.covers]

    def links(self, lane: "pb.Lane.ValueType") -> list[Link]:
        """Return the links of a lane."""
        return [shard.links[lane] for shard in self._shards.values()]

    def sync(self) -> None:
        """Open links to new shards, close those to shards that are gone, and route anew where something differs."""
        handles = self._registry.peers(peer_pb2.ROLE_EXPERTS, leaving=True)
        handles = [handle for handle in handles if handle.peer.compat == self._hello.compat]
        listed = {id(handle) for handle in handles}
        for key, shard in list(self._shards.items()):
            shard.listed = key in listed
            if not shard.listed and not shard.is_open:
                del self._shards[key]
                self._close(shard)
        for handle in handles:
            shard = self._shards.get(id(handle)) or self._open(handle)
            for link in shard.links.values():
                link.leaving |= handle.peer.draining
        self._route()

    async def close(self) -> None:
        """Close every stream."""
        self._sweeper.cancel()
        for shard in self._shards.values():
            self._close(shard)
        self._shards.clear()
        await asyncio.gather(self._sweeper, *self._closing, return_exceptions=True)

    def _open(self, handle: PeerHandle) -> Shard:
        links = {}
        for lane in LANES.values():
            hello = pb.Hello(compat=self._hello.compat, lane=lane, caller=self._hello.caller)
            links[lane] = Link(handle, lane, hello, self._weight_version, self._owner)
        shard = self._shards[id(handle)] = Shard(handle, links)
        return shard

    def _close(self, shard: Shard) -> None:
        for link in shard.links.values():
            task = asyncio.create_task(link.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _route(self) -> None:
        shards = list(self._shards.values())
        facts = tuple((id(shard.handle), tuple(_key(held) for held in shard.holdings)) for shard in shards)
        if facts != self._routed:
            self._routed, self.routes = facts, Routes(shards)

    async def _sweep(self) -> None:
        """Break streams of shards that show no life while work is in flight."""
        before = monotonic()
        while True:
            await asyncio.sleep(self._detection / 4)
            now = monotonic()
            # Where this process itself was stopped, or its loop busy, the shards' messages wait unread.
            asleep = now - before > self._detection / 2
            for shard in list(self._shards.values()):
                for link in shard.links.values():
                    if asleep:
                        link.forgive(now)
                    else:
                        link.check(now, self._detection)
            before = now


def _key(held: peer_pb2.ExpertRange) -> tuple[int, int, int]:
    return held.layer, held.first, held.count
