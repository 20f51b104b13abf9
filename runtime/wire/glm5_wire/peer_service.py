"""PeerService: who am I, who are you, and what has changed. Served by every role."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from glm5.v1 import peer_pb2 as pb
from glm5.v1 import peer_service_pb2 as messages
from glm5.v1 import peer_service_pb2_grpc as rpc
from glm5_wire.changes import Changes


class PeerServicer(rpc.PeerServiceServicer):
    """Answers Describe, Announce and Watch.

    Args:
        describe: returns what this process is now.
        changes: set when the description has changed.
        progress: returns a counter that grows while the process is alive.
        announced: is told the peer of each Announce.
        period_seconds: longest pause between two messages of a Watch.
    """

    def __init__(
        self,
        describe: Callable[[], pb.Peer],
        changes: Changes,
        progress: Callable[[], int],
        announced: Callable[[pb.Peer], None],
        period_seconds: float,
    ) -> None:
        self._describe, self._changes, self._progress = describe, changes, progress
        self._announced, self._period = announced, period_seconds

    async def Describe(  # noqa: N802
        self, request: messages.DescribeRequest, context: Any
    ) -> messages.DescribeResponse:
        """Return what this process is now."""
        return messages.DescribeResponse(peer=self._describe())

    async def Announce(  # noqa: N802
        self, request: messages.AnnounceRequest, context: Any
    ) -> messages.AnnounceResponse:
        """Note the caller as a candidate, to be looked at at once."""
        self._announced(request.peer)
        return messages.AnnounceResponse(peer=self._describe())

    async def Watch(  # noqa: N802
        self, request: messages.WatchRequest, context: Any
    ) -> AsyncIterator[messages.WatchResponse]:
        """Yield the description now, after each change, and at least once in each period."""
        seen = self._changes.version
        while True:
            yield messages.WatchResponse(peer=self._describe(), progress=self._progress())
            seen = await self._changes.after(seen, self._period)
            await asyncio.sleep(0)
