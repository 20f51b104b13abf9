"""What travels: the dispatch of one layer as a whole (`Pending`) and what of it goes to one shard (`Part`).

One decode row makes four small messages a layer, so the work here is numpy on bytes: torch's calls cost more than a
row's arithmetic.
"""

import asyncio
from dataclasses import dataclass, field
from functools import cached_property

import google_crc32c
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glm5.v1 import expert_service_pb2 as pb
from glm5_model.exchange import Dispatch
from glm5_model.experts import combine
from glm5_wire.errors import InvalidRequest, ServiceError
from glm5_wire.tensors.codec import element_type, fill, to_bytes

_MAX_UINT32 = 2**32 - 1

Positions = npt.NDArray[np.int64]
"""Indices into the N * k pairs of a dispatch, ascending: pair p is row p // k."""


class Pending:
    """A dispatch on its way: `ExpertPool.collect` waits for it.

    Args:
        dispatch: of one layer.
        lane: it travels on.
        reduced: shards answer with one weighted sum per row.
        expires: monotonic seconds.
        trace: traceparent of a sampled step, else empty.
    """

    def __init__(
        self, dispatch: Dispatch, lane: "pb.Lane.ValueType", reduced: bool, expires: float, trace: str
    ) -> None:
        self.layer, self.rows, self._gates = dispatch.layer, dispatch.rows, dispatch.gates
        self.lane, self.reduced, self.expires, self.traceparent = lane, reduced, expires, trace
        self.num_rows, self.k = dispatch.expert_ids.shape
        self.experts: npt.NDArray[np.int64] = dispatch.expert_ids.numpy().reshape(-1)
        self.wire_experts: npt.NDArray[np.uint16] = self.experts.astype("<u2")
        self.wire_gates: npt.NDArray[np.float32] = self._gates.detach().numpy().reshape(-1)
        self.num_left = len(self.experts)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.trouble = ""
        """The last failure, for the message when time runs out."""
        self.reply_dtype = torch.float32 if reduced else self.rows.dtype
        self._answers: list[tuple[Positions, bytes]] = []

    @cached_property
    def whole_rows(self) -> tuple[Tensor, bytes, int]:
        """Return all rows, their bytes and the CRC32C of these: shards that need every row share them."""
        return _checked(self.rows)

    def add(self, part: "Part", data: bytes) -> None:
        """Take over the answer to `part`; the last one ends the wait."""
        if self.done.done():
            return
        self._answers.append((part.positions, data))
        self.num_left -= len(part.positions)
        if not self.num_left:
            self.done.set_result(None)

    def fail(self, error: ServiceError) -> None:
        """End the wait with an error."""
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # it is no surprise where nobody asks any more

    def result(self) -> Tensor:
        """Return the routed sum [N, hidden] in the dtype of the rows."""
        if not self._answers:  # no row at all
            return torch.zeros_like(self.rows)
        return self._summed() if self.reduced else combine(self._outputs(), self._gates)

    def _outputs(self) -> Tensor:
        """Return the output of each pair, [N, k, hidden]."""
        output = np.dtype((np.void, self.rows.shape[1] * self.reply_dtype.itemsize))
        buffer = np.empty(len(self.experts), output)
        for positions, data in self._answers:
            buffer[positions] = np.frombuffer(data, output)
        return torch.from_numpy(buffer.view(np.uint8)).view(self.reply_dtype).view(self.num_rows, self.k, -1)

    def _summed(self) -> Tensor:
        """Return the sum of the shards' sums, in an order that does not depend on who answered first."""
        total = np.zeros(tuple(self.rows.shape), dtype=np.float32)
        for positions, data in sorted(self._answers, key=lambda answer: int(answer[0][0])):
            total[np.unique(positions // self.k)] += np.frombuffer(data, np.float32).reshape(-1, total.shape[1])
        return torch.from_numpy(total).to(self.rows.dtype)


@dataclass(eq=False)
class Part:
    """Some pairs of a dispatch, for one shard."""

    pending: Pending
    positions: Positions
    avoid: frozenset[object] = frozenset()
    """Shards that have failed it in this round."""
    sequence: int = field(default=0)
    num_rows: int = field(init=False)
    _bounds: npt.NDArray[np.uint32] = field(init=False)
    """Where in `positions` each row begins, and where the last one ends."""

    def __post_init__(self) -> None:
        pairs = len(self.positions)
        if self.pending.num_rows == 1:
            self._bounds = np.array([0, pairs], dtype="<u4")
        else:
            rows = self.positions // self.pending.k
            starts = np.flatnonzero(rows[1:] != rows[:-1]) + 1
            self._bounds = np.concatenate(([0], starts, [pairs])).astype("<u4")
        self.num_rows = len(self._bounds) - 1

    def split(self, max_rows: int, max_pairs: int) -> "list[Part]":
        """Return parts of at most `max_rows` rows and about `max_pairs` pairs, cut between rows."""
        if len(self.positions) <= max_pairs and self.num_rows <= max_rows:
            return [self]
        limit = max(1, min(max_rows, max_pairs // self.pending.k))
        pieces = np.split(self.positions, self._bounds[limit:-1:limit])
        return [Part(self.pending, piece, self.avoid) for piece in pieces]

    def message(self, weight_version: int, now: float) -> pb.StreamRequest:
        """Return the batch; `sequence` is set already."""
        pending, positions = self.pending, self.positions
        rows, data, crc = self._rows()
        offsets = self._bounds.tobytes()
        experts = pending.wire_experts[positions].tobytes()
        gates = pending.wire_gates[positions].tobytes()
        for more in (offsets, experts, gates):
            crc = google_crc32c.extend(crc, more)
        message = pb.StreamRequest()
        batch = message.batch
        batch.sequence, batch.layer, batch.weight_version = self.sequence, pending.layer, weight_version
        fill(batch.rows, rows, data)
        batch.row_offsets, batch.expert_ids, batch.gates = offsets, experts, gates
        batch.reply_mode = pb.REPLY_MODE_REDUCED if pending.reduced else pb.REPLY_MODE_ROWS
        batch.deadline_ms = min(max(1, int((pending.expires - now) * 1000)), _MAX_UINT32)
        batch.crc32c, batch.traceparent = crc, pending.traceparent
        return message

    def _rows(self) -> tuple[Tensor, bytes, int]:
        if self.num_rows == self.pending.num_rows:
            return self.pending.whole_rows
        used = self.positions[self._bounds[:-1]] // self.pending.k
        return _checked(self.pending.rows[torch.from_numpy(used)])

    def parse(self, result: pb.Result) -> bytes:
        """Return the bytes of the answer's rows.

        Raises:
            InvalidRequest: the checksum, the shape or the type is wrong.
        """
        pending, data, shape = self.pending, result.rows.data, list(result.rows.shape)
        if google_crc32c.value(data) != result.crc32c:
            raise InvalidRequest("answer unusable", "", "its checksum differs from the sender's")
        wanted = [self.num_rows if pending.reduced else len(self.positions), pending.rows.shape[1]]
        num_bytes = wanted[0] * wanted[1] * pending.reply_dtype.itemsize
        is_type = result.rows.element_type == element_type(pending.reply_dtype)
        if shape != wanted or not is_type or len(data) != num_bytes:
            why = f"it is {shape} in {len(data)} bytes, wanted is {wanted} of {pending.reply_dtype}"
            raise InvalidRequest("answer unusable", "", why)
        return data


def _checked(rows: Tensor) -> tuple[Tensor, bytes, int]:
    """Return `rows`, their bytes and the CRC32C of these."""
    data = to_bytes(rows)
    return rows, data, google_crc32c.value(data)
