"""What travels: the dispatch of one layer as a whole (`Pending`) and what of it goes to one shard (`Part`).

One decode row makes four small messages a layer, so one compiled call does what it can: others cost more than a row's
arithmetic.
"""

import asyncio
import functools
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
from glm5_wire.tensors.messages import Batch, Messages, Piece, Reply, address
from glm5_wire.tensors.routes import Positions

_MAX_UINT32 = 2**32 - 1
_PAIR_BYTES = 6
"""An expert's id and a gate."""


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
        self.layer, self.rows = dispatch.layer, dispatch.rows.contiguous()
        self.ids, self.gates = dispatch.expert_ids.contiguous(), dispatch.gates.detach().contiguous()
        self.lane, self.reduced, self.expires, self.traceparent = lane, reduced, expires, trace
        self.num_rows, self.k = self.ids.shape
        self.num_left = self.num_rows * self.k
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.trouble = ""
        """The last failure, for the message when time runs out."""
        self.reply_dtype = torch.float32 if reduced else self.rows.dtype
        self._answers: list[tuple[Positions, bytes, int]] = []

    @cached_property
    def experts(self) -> npt.NDArray[np.int64]:
        """Return the expert of each pair."""
        return self.ids.numpy().reshape(-1)

    @cached_property
    def batch(self) -> Batch:
        """Return what all messages of the dispatch share."""
        rows, trace = self.rows, self.traceparent.encode()
        return Batch(
            layer=self.layer,
            element_type=element_type(rows.dtype),
            reply_mode=pb.REPLY_MODE_REDUCED if self.reduced else pb.REPLY_MODE_ROWS,
            width=rows.shape[1],
            row_bytes=rows.shape[1] * rows.itemsize,
            chosen=self.k,
            rows=rows.data_ptr(),
            experts=self.ids.data_ptr(),
            gates=self.gates.data_ptr(),
            trace=trace,
            trace_bytes=len(trace),
        )

    def add(self, part: "Part", data: bytes, begin: int = 0) -> None:
        """Take over the answer to `part`, in `data` from `begin` on; the last one ends the wait."""
        if self.done.done():
            return
        self._answers.append((part.positions, data, begin))
        self.num_left -= len(part.positions)
        if not self.num_left:
            self.done.set_result(None)

    def fail(self, error: ServiceError) -> None:
        """End the wait with an error."""
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # it is no surprise where nobody asks any more

    def result(self, messages: Messages | None = None) -> Tensor:
        """Return the routed sum [N, hidden] in the dtype of the rows."""
        if not self._answers:  # no row at all
            return torch.zeros_like(self.rows)
        if self.reduced:
            return self._summed()
        if messages is None or self.reply_dtype != torch.float32:
            return combine(self._outputs(), self.gates)
        return self._combined(messages)

    def _combined(self, messages: Messages) -> Tensor:
        """Do what `combine` does where the answers lie."""
        pieces = [Piece(data, begin, address(positions), len(positions)) for positions, data, begin in self._answers]
        out = torch.empty_like(self.rows)
        messages.combine(pieces, self.gates, out)
        return out

    def _outputs(self) -> Tensor:
        """Return the output of each pair, [N, k, hidden]."""
        output = np.dtype((np.void, self.rows.shape[1] * self.reply_dtype.itemsize))
        buffer = np.empty(self.num_rows * self.k, output)
        for positions, data, begin in self._answers:
            buffer[positions] = np.frombuffer(data, output, len(positions), begin)
        return torch.from_numpy(buffer.view(np.uint8)).view(self.reply_dtype).view(self.num_rows, self.k, -1)

    def _summed(self) -> Tensor:
        """Return the sum of the shards' sums, in an order that does not depend on who answered first."""
        total = np.zeros(tuple(self.rows.shape), dtype=np.float32)
        for positions, data, begin in sorted(self._answers, key=lambda answer: int(answer[0][0])):
            rows = np.unique(positions // self.k)
            sums = np.frombuffer(data, np.float32, len(rows) * total.shape[1], begin)
            total[rows] += sums.reshape(-1, total.shape[1])
        return torch.from_numpy(total).to(self.rows.dtype)


class Part:
    """Some pairs of a dispatch, for one shard."""

    def __init__(
        self,
        pending: Pending,
        positions: Positions,
        avoid: frozenset[object] = frozenset(),
        num_rows: int | None = None,
    ) -> None:
        """Take the pairs, the shards that have failed them in this round, and how many rows they are, where known."""
        self.pending, self.positions, self.avoid = pending, positions, avoid
        self.num_rows = len(self._bounds) - 1 if num_rows is None else num_rows
        self.sequence = 0

    @cached_property
    def _bounds(self) -> npt.NDArray[np.uint32]:
        """Where in `positions` each row begins, and where the last one ends."""
        rows = self.positions // self.pending.k
        starts = np.flatnonzero(rows[1:] != rows[:-1]) + 1
        return np.concatenate(([0], starts, [len(rows)])).astype("<u4")

    def split(self, max_rows: int, max_pairs: int) -> "list[Part]":
        """Return parts of at most `max_rows` rows and about `max_pairs` pairs, cut between rows."""
        if len(self.positions) <= max_pairs and self.num_rows <= max_rows:
            return [self]
        limit = max(1, min(max_rows, max_pairs // self.pending.k))
        pieces = np.split(self.positions, self._bounds[limit:-1:limit])
        return [Part(self.pending, piece, self.avoid) for piece in pieces]

    def message(self, weight_version: int, now: float, messages: Messages | None = None) -> bytes:
        """Return the batch as a StreamRequest; `sequence` is set already."""
        deadline_ms = min(max(1, int((self.pending.expires - now) * 1000)), _MAX_UINT32)
        if messages is None:
            return self._plain_message(weight_version, deadline_ms).SerializeToString()
        batch, count = self.pending.batch, len(self.positions)
        batch.sequence, batch.weight_version, batch.deadline_ms = self.sequence, weight_version, deadline_ms
        batch.positions, batch.count = address(self.positions), count
        return messages.batch(batch, self.num_rows * (batch.row_bytes + 4) + count * _PAIR_BYTES + batch.trace_bytes)

    def _plain_message(self, weight_version: int, deadline_ms: int) -> pb.StreamRequest:
        """Do the same without the compiled library."""
        pending, positions = self.pending, self.positions
        rows = pending.rows[torch.from_numpy(positions[self._bounds[:-1]] // pending.k)]
        parts = [
            to_bytes(rows),
            self._bounds.tobytes(),
            pending.experts[positions].astype("<u2").tobytes(),
            to_bytes(pending.gates.reshape(-1)[torch.from_numpy(positions)]),
        ]
        message = pb.StreamRequest()
        batch = message.batch
        batch.sequence, batch.layer, batch.weight_version = self.sequence, pending.layer, weight_version
        fill(batch.rows, rows, parts[0])
        _, batch.row_offsets, batch.expert_ids, batch.gates = parts
        batch.reply_mode = pb.REPLY_MODE_REDUCED if pending.reduced else pb.REPLY_MODE_ROWS
        batch.deadline_ms, batch.traceparent = deadline_ms, pending.traceparent
        batch.crc32c = functools.reduce(google_crc32c.extend, parts, 0)
        return message

    def take(self, reply: Reply, message: bytes) -> None:
        """Take over an answer that the compiled library has read.

        Raises:
            InvalidRequest: the shape or the type is wrong.
        """
        self._require([reply.rows, reply.width], reply.element_type, reply.rows * reply.width)
        self.pending.add(self, message, reply.data)

    def parse(self, result: pb.Result) -> bytes:
        """Return the bytes of the answer's rows.

        Raises:
            InvalidRequest: the checksum, the shape or the type is wrong.
        """
        data = result.rows.data
        if google_crc32c.value(data) != result.crc32c:
            raise InvalidRequest("answer unusable", "", "its checksum differs from the sender's")
        itemsize = self.pending.reply_dtype.itemsize
        self._require(list(result.rows.shape), result.rows.element_type, len(data) / itemsize)
        return data

    def _require(self, shape: list[int], kind: int, num_elements: float) -> None:
        """Raise InvalidRequest where an answer is not what is wanted."""
        pending = self.pending
        wanted = [self.num_rows if pending.reduced else len(self.positions), pending.rows.shape[1]]
        if shape != wanted or kind != element_type(pending.reply_dtype) or num_elements != wanted[0] * wanted[1]:
            why = f"it is {shape} with {num_elements:g} elements, wanted is {wanted} of {pending.reply_dtype}"
            raise InvalidRequest("answer unusable", "", why)
