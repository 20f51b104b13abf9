"""The client of the expert shards: rows out, routed sums back, whatever happens to a shard meanwhile.

The engine calls `send` and `collect`, both on the event loop.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glm5.v1 import expert_service_pb2 as pb
from glm5_model.config import ModelConfig
from glm5_model.exchange import Dispatch
from glm5_wire.errors import ServiceError, Unavailable
from glm5_wire.metrics import counter, histogram
from glm5_wire.registry import PeerRegistry
from glm5_wire.tensors.link import Link
from glm5_wire.tensors.messages import messages
from glm5_wire.tensors.parts import Part, Pending
from glm5_wire.tensors.routes import Positions, Routes, in_words
from glm5_wire.tensors.shards import LANES, Shard, Shards

log = logging.getLogger(__name__)

WAIT_SECONDS = histogram(
    "glm5_expert_wait_seconds", "Time an attention worker waited for a layer's experts, by lane.", ["lane"]
)
RETRIES = counter(
    "glm5_expert_retries_total", "Parts of dispatches that were sent again, to another shard or the same."
)

MAX_REPLY_BYTES = 8 << 20
"""A larger answer is asked for in parts, so that it does not block the connection for others."""

_AGAIN_SECONDS = 0.05
_WAITS = {lane: WAIT_SECONDS.labels(name) for name, lane in LANES.items()}


class ExpertPool:
    """Sends each layer's rows to the shards that hold their experts.

    Args:
        registry: knows the shards.
        compat: ours; shards of another one are not used.
        hidden: width of a row.
        dtype: of a row.
        detection_seconds: a silent shard's batches go elsewhere after this long.
        timeout_seconds: a dispatch without result for this long fails.
        reply_mode: "rows", or "reduced" with numerics `fast`.
        weight_version: that shards must hold.
        name: ours, for the shards' logs.
    """

    def __init__(
        self,
        registry: PeerRegistry,
        compat: str,
        hidden: int,
        dtype: torch.dtype,
        detection_seconds: float,
        timeout_seconds: float,
        reply_mode: Literal["rows", "reduced"] = "rows",
        weight_version: int = 1,
        name: str = "",
    ) -> None:
        self._registry, self._timeout = registry, timeout_seconds
        self._reduced = reply_mode == "reduced"
        self._max_pairs = max(1, MAX_REPLY_BYTES // (hidden * dtype.itemsize))
        self._parked: list[Part] = []
        self._watched: deque[Pending] = deque()
        self._watching: asyncio.TimerHandle | None = None
        self._flushing: asyncio.TimerHandle | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._messages = messages()
        hello = pb.Hello(compat=compat, caller=name)
        self._shards = Shards(registry, hello, weight_version, detection_seconds, self)

    def send(self, dispatch: Dispatch, lane: str, traceparent: str = "") -> Pending:
        """Send rows to the shards; nothing is waited for.

        Args:
            dispatch: rows [N, hidden] on the CPU, expert ids [N, k] ascending in each row, gates [N, k] float32.
            lane: "decode" or "prefill".
            traceparent: of a sampled step, else empty.

        Returns:
            What `collect` takes.
        """
        pending = Pending(dispatch, LANES[lane], self._reduced, monotonic() + self._timeout, traceparent)
        if not pending.num_left:
            pending.done.set_result(None)
            return pending
        self._watch(pending)
        if not self._place_whole(pending):
            self._place(Part(pending, np.arange(pending.num_left)))
        return pending

    async def collect(self, pending: Pending) -> Tensor:
        """Return the routed sum [N, hidden] in the dtype of the rows.

        Raises:
            Unavailable: the shards did not answer in time; may be tried again.
            ServiceError: a shard refused the batch for good.
        """
        begun = monotonic()
        try:
            await pending.done
        finally:
            if pending.num_left:
                self._drop(pending)
            _WAITS[pending.lane].observe(monotonic() - begun)
        return pending.result(self._messages)

    def coverage(self, config: ModelConfig) -> tuple[bool, str]:
        """Return whether every expert can be reached, and in words what cannot."""
        missing = in_words(Routes(self._shards.covering()).missing(config.moe_layers, config.num_experts))
        return not missing, missing

    def shard_names(self) -> list[str]:
        """Return the names of the shards to which rows go."""
        return sorted(shard.handle.peer.name for shard in self._shards.covering())

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each change of what can be reached."""
        self._callbacks.append(callback)

    async def close(self) -> None:
        """Close every stream; what is on its way fails."""
        if self._flushing is not None:
            self._flushing.cancel()
        if self._watching is not None:
            self._watching.cancel()
        for pending in self._watched:
            pending.fail(Unavailable("experts did not answer", f"layer {pending.layer}", "the worker leaves"))
        await self._shards.close()

    # What links tell

    def link_changed(self) -> None:
        """Look again at who can be reached, and send what waits for that."""
        self._shards.sync()
        self._flush()
        for callback in self._callbacks:
            callback()

    def link_broken(self, link: Link, error: ServiceError) -> None:
        """Have the shard looked at at once."""
        self._registry.report_failure(link.handle, error)

    def part_failed(self, link: Link, part: Part, reason: str) -> None:
        """Send `part` to another holder, or once more when there is one."""
        if part.pending.done.done():
            return
        RETRIES.inc()
        part.pending.trouble = reason
        self._place(Part(part.pending, part.positions, part.avoid | {link.handle}))

    def told(self, link: Link, failure: pb.Failure) -> None:
        """Take over what a shard says of itself in a failure."""
        link.handle.peer = failure.peer
        self._shards.sync()

    # Placing

    def _place_whole(self, pending: Pending) -> bool:
        """Give all pairs to holders, if each class of experts has one of its own; return whether it was done."""
        classes, parts = self._shards.routes.classes, dict[Link, Part]()
        for number, positions, num_rows in self._shards.routes.split(pending.layer, pending.ids) or ():
            link = self._choose(classes[number], pending.lane, frozenset(), {})
            if link is None or link in parts:
                return False
            parts[link] = Part(pending, positions, num_rows=num_rows)
        for link, part in parts.items():
            for piece in part.split(link.max_rows, self._max_pairs):
                link.submit(piece)
        return bool(parts)

    def _place(self, part: Part) -> None:
        """Give each pair to one of its holders; what has none waits for one."""
        pending, positions = part.pending, part.positions
        classes = self._shards.routes.of(pending.layer, pending.experts[positions])
        homeless: list[npt.NDArray[np.int64]] = []
        chosen: dict[Link, list[npt.NDArray[np.int64]]] = {}
        for number in np.flatnonzero(np.bincount(classes)).tolist():
            own = positions[classes == number]
            link = self._choose(self._shards.routes.classes[number], pending.lane, part.avoid, chosen)
            if link is None:
                homeless.append(own)
            else:
                chosen.setdefault(link, []).append(own)
        for link, groups in chosen.items():
            whole = Part(pending, _ascending(groups), part.avoid)
            for piece in whole.split(link.max_rows, self._max_pairs):
                link.submit(piece)
        if homeless:
            self._parked.append(Part(pending, _ascending(homeless)))
            self._flush_later()

    def _choose(
        self,
        holders: tuple[Shard, ...],
        lane: "pb.Lane.ValueType",
        avoid: frozenset[object],
        chosen: dict[Link, list[npt.NDArray[np.int64]]],
    ) -> Link | None:
        """Return the open link with the fewest rows outstanding, one that stays before one that leaves."""
        links = [s.links[lane] for s in holders if s.listed and s.handle not in avoid and s.links[lane].is_open]
        if len(links) <= 1:
            return links[0] if links else None
        ahead = {link: link.load + sum(map(len, chosen.get(link, []))) for link in links}
        return min(links, key=lambda link: (link.leaving, ahead[link]))

    def _flush_later(self) -> None:
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._flush)

    def _flush(self) -> None:
        """Try everything that waits for a holder once more."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        parked, self._parked = self._parked, []
        now = monotonic()
        for part in parked:
            if not part.pending.done.done() and part.pending.expires > now:
                self._place(part)

    def _drop(self, pending: Pending) -> None:
        """Forget a dispatch that nobody waits for any more."""
        pending.done.cancel()
        self._parked = [part for part in self._parked if part.pending is not pending]
        for link in self._shards.links(pending.lane):
            link.drop(pending)

    def _watch(self, pending: Pending) -> None:
        """Have `pending` fail when its time is over: one timer for all, since what is sent first is late first."""
        while self._watched and self._watched[0].done.done():
            self._watched.popleft()
        self._watched.append(pending)
        if self._watching is None:
            self._watching = asyncio.get_running_loop().call_at(pending.expires, self._end_late)

    def _end_late(self) -> None:
        """Fail what has waited too long, and look again when the next one will have."""
        self._watching = None
        while self._watched and (self._watched[0].done.done() or self._watched[0].expires <= monotonic()):
            pending = self._watched.popleft()
            pending.fail(self._late(pending))
        if self._watched:
            self._watching = asyncio.get_running_loop().call_at(self._watched[0].expires, self._end_late)

    def _late(self, pending: Pending) -> Unavailable:
        missing = self._shards.routes.missing([pending.layer], int(pending.experts.max()) + 1)
        why = f"no answer for {self._timeout:g} s"
        if missing:
            why += f", nobody holds {in_words(missing)}"
        if pending.trouble:
            why += f", last failure: {pending.trouble}"
        return Unavailable("experts did not answer", f"layer {pending.layer}", why, "try again; check the shards")


def _ascending(groups: list[Positions]) -> Positions:
    """Return the positions of all groups, each of which ascends."""
    return np.sort(np.concatenate(groups)) if len(groups) > 1 else groups[0]
