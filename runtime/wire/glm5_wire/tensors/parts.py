"""What travels: the dispatch of one layer as a whole (`Pending`) and what of it goes to one shard (`Part`)."""

import asyncio
from dataclasses import dataclass, field

import google_crc32c
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glm5.v1 import expert_service_pb2 as pb
from glm5_model.exchange import Dispatch
from glm5_model.experts import combine
from glm5_wire.errors import InvalidRequest, ServiceError
from glm5_wire.tensors.codec import from_proto, to_bytes, to_proto

_MAX_UINT32 = 2**32 - 1

Positions = npt.NDArray[np.int64]
"""Indices into the N * k pairs of a dispatch, ascending: pair p is row p // k."""


class Pending:
    """A dispatch on its way: `ExpertPool.collect` waits for it."""

    def __init__(
        self, dispatch: Dispatch, lane: "pb.Lane.ValueType", reduced: bool, expires: float, trace: str
    ) -> None:
        self.layer, self.rows, self.gates = dispatch.layer, dispatch.rows, dispatch.gates
        self.lane, self.expires, self.traceparent = lane, expires, trace
        self.num_rows, self.k = dispatch.expert_ids.shape
        self.experts: npt.NDArray[np.int64] = dispatch.expert_ids.numpy().reshape(-1)
        self.num_left = self.num_rows * self.k
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.trouble = ""
        """The last failure, for the message when time runs out."""
        self._outputs: Tensor | None = None
        self._sums: dict[int, tuple[Positions, Tensor]] | None = {} if reduced else None

    @property
    def reduced(self) -> bool:
        """Return whether shards answer with one weighted sum per row."""
        return self._sums is not None

    def add(self, part: "Part", rows: Tensor) -> None:
        """Take over the answer to `part`; the last one ends the wait."""
        if self.done.done():
            return
        if self._sums is not None:
            self._sums[int(part.positions[0])] = (part.row_indices(), rows)
        elif len(part.positions) == len(self.experts):
            self._outputs = rows
        else:
            if self._outputs is None:
                self._outputs = rows.new_empty(len(self.experts), rows.shape[1])
            self._outputs[torch.from_numpy(part.positions)] = rows
        self.num_left -= len(part.positions)
        if not self.num_left:
            self.done.set_result(None)

    def fail(self, error: ServiceError) -> None:
        """End the wait with an error."""
        if not self.done.done():
            self.done.set_exception(error)

    def result(self) -> Tensor:
        """Return the routed sum [N, hidden] in the dtype of the rows."""
        if self._sums is None:
            if self._outputs is None:  # no row at all
                return torch.zeros_like(self.rows)
            return combine(self._outputs.view(self.num_rows, self.k, -1), self.gates)
        total = torch.zeros(self.rows.shape, dtype=torch.float32)
        for first in sorted(self._sums):  # in an order that does not depend on who answered first
            rows, sums = self._sums[first]
            total.index_add_(0, torch.from_numpy(np.unique(rows)), sums)
        return total.to(self.rows.dtype)


@dataclass(eq=False, slots=True)
class Part:
    """Some pairs of a dispatch, for one shard."""

    pending: Pending
    positions: Positions
    avoid: frozenset[object] = frozenset()
    """Shards that have failed it in this round."""
    sequence: int = field(default=0)

    def row_indices(self) -> Positions:
        """Return the row of each pair."""
        rows: Positions = self.positions // self.pending.k
        return rows

    @property
    def num_rows(self) -> int:
        """Return how many rows it has."""
        rows = self.row_indices()
        return 1 + int(np.count_nonzero(rows[1:] != rows[:-1]))

    def split(self, max_rows: int, max_pairs: int) -> "list[Part]":
        """Return parts of at most `max_rows` rows and about `max_pairs` pairs, cut between rows."""
        if len(self.positions) <= max_pairs and self.num_rows <= max_rows:
            return [self]
        limit = max(1, min(max_rows, max_pairs // self.pending.k))
        _, first = np.unique(self.row_indices(), return_index=True)
        pieces = np.split(self.positions, first[limit::limit])
        return [Part(self.pending, piece, self.avoid) for piece in pieces]

    def message(self, weight_version: int, now: float) -> pb.StreamRequest:
        """Return the batch; `sequence` is set already."""
        pending, rows = self.pending, self.row_indices()
        used, counts = np.unique(rows, return_counts=True)
        whole = len(used) == pending.num_rows
        tensor = to_proto(pending.rows if whole else pending.rows[torch.from_numpy(used)])
        offsets = np.concatenate(([0], np.cumsum(counts))).astype("<u4").tobytes()
        experts = pending.experts[self.positions].astype("<u2").tobytes()
        gates = to_bytes(pending.gates.reshape(-1)[torch.from_numpy(self.positions)])
        crc = google_crc32c.value(tensor.data)
        for data in (offsets, experts, gates):
            crc = google_crc32c.extend(crc, data)
        batch = pb.Batch(
            sequence=self.sequence,
            layer=pending.layer,
            weight_version=weight_version,
            rows=tensor,
            row_offsets=offsets,
            expert_ids=experts,
            gates=gates,
            reply_mode=pb.REPLY_MODE_REDUCED if pending.reduced else pb.REPLY_MODE_ROWS,
            deadline_ms=min(max(1, int((pending.expires - now) * 1000)), _MAX_UINT32),
            crc32c=crc,
            traceparent=pending.traceparent,
        )
        return pb.StreamRequest(batch=batch)

    def parse(self, result: pb.Result) -> Tensor:
        """Return the rows of the answer.

        Raises:
            InvalidRequest: the checksum or the shape is wrong.
        """
        if google_crc32c.value(result.rows.data) != result.crc32c:
            raise InvalidRequest("answer unusable", "", "its checksum differs from the sender's")
        rows = from_proto(result.rows, "rows of an answer")
        wanted = (self.num_rows if self.pending.reduced else len(self.positions), self.pending.rows.shape[1])
        dtype = torch.float32 if self.pending.reduced else self.pending.rows.dtype
        if tuple(rows.shape) != wanted or rows.dtype != dtype:
            raise InvalidRequest("answer unusable", "", f"it is {list(rows.shape)} {rows.dtype}, wanted {list(wanted)}")
        return rows
