"""What waits on a shard: two lanes, coalesced by layer, bounded in bytes. Pure: time comes in as numbers."""

from collections import deque
from collections.abc import Callable

from glm5.v1 import expert_service_pb2 as pb
from glm5_experts.check import MAX_DECODE_ROWS, MAX_PREFILL_ROWS
from glm5_experts.refusal import Refusal
from glm5_experts.work import Lane, Work

MAX_DECODE_RUN = 8
"""The oldest prefill batch runs after at most this many decode products."""

_LIMITS: dict[Lane, int] = {pb.LANE_DECODE: MAX_DECODE_ROWS, pb.LANE_PREFILL: MAX_PREFILL_ROWS}


class Queue:
    """Batches that wait.

    Args:
        max_bytes: a batch that would make more is refused; one batch always fits.
        expired: is told each batch whose time ran out while it waited.
    """

    def __init__(self, max_bytes: int, expired: Callable[[Work], None]) -> None:
        self._lanes: dict[Lane, deque[Work]] = {pb.LANE_DECODE: deque(), pb.LANE_PREFILL: deque()}
        self._max_bytes, self._expired = max_bytes, expired
        self._decode_run = 0
        self.num_bytes = 0

    def __len__(self) -> int:
        return sum(len(lane) for lane in self._lanes.values())

    def put(self, work: Work) -> None:
        """Queue `work`.

        Raises:
            Refusal: OVERLOADED, the queue is full.
        """
        if self.num_bytes and self.num_bytes + work.num_bytes > self._max_bytes:
            why = f"{self.num_bytes} of {self._max_bytes} bytes wait, the batch has {work.num_bytes}"
            raise Refusal(pb.BATCH_ERROR_OVERLOADED, f"queue full: {why}; try again shortly, or add shards")
        self._lanes[work.lane].append(work)
        self.num_bytes += work.num_bytes

    def take(self, now: float) -> list[Work]:
        """Return the batches of the next product, all of one lane and layer; empty where nothing waits.

        Cancelled and expired batches are dropped on the way.
        """
        for lane in self._lanes:
            self._sweep(lane, now)
        decode, prefill = self._lanes[pb.LANE_DECODE], self._lanes[pb.LANE_PREFILL]
        if decode and (not prefill or self._decode_run < MAX_DECODE_RUN):
            self._decode_run = self._decode_run + 1 if prefill else 0
            return self._coalesced(pb.LANE_DECODE)
        self._decode_run = 0
        return self._coalesced(pb.LANE_PREFILL) if prefill else []

    def _coalesced(self, lane: Lane) -> list[Work]:
        """Take the oldest batch and the others of its layer, as many as the lane's rows allow."""
        waiting = self._lanes[lane]
        layer, room = waiting[0].layer, _LIMITS[lane]
        taken: list[Work] = []
        kept: deque[Work] = deque()
        for work in waiting:
            fits = work.layer == layer and (not taken or work.num_rows <= room)
            (taken if fits else kept).append(work)
            room -= work.num_rows if fits else 0
        self._lanes[lane] = kept
        self.num_bytes -= sum(work.num_bytes for work in taken)
        return taken

    def _sweep(self, lane: Lane, now: float) -> None:
        """Drop what nobody waits for any more."""
        waiting = self._lanes[lane]
        if not any(work.cancelled or work.expires <= now for work in waiting):
            return
        kept: deque[Work] = deque()
        for work in waiting:
            if work.cancelled or work.expires <= now:
                self.num_bytes -= work.num_bytes
                if not work.cancelled:
                    self._expired(work)
            else:
                kept.append(work)
        self._lanes[lane] = kept
