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
from glm5.v1 import tensor_pb2
from glm5_model.exchange import Dispatch
from glm5_model.experts import combine
from glm5_wire.errors import InvalidRequest, ServiceError
from glm5_wire.tensors.codec import element_type, to_proto

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
        self.num_left = len(self.experts)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.trouble = ""
        """The last failure, for the message when time runs out."""
        self.reply_dtype = torch.float32 if reduced else self.rows.dtype
        self._answers: list[tuple[Positions, bytes]] = []

    @cached_property
    def whole_rows(self) -> tuple[tensor_pb2.Tensor, int]:
        """Return the message of all rows and its CRC32C: shards that need every row share it."""
        return _checked(self.rows)

    @cached_property
    def wire_experts(self) -> npt.NDArray[np.uint16]:
        """Return the expert of each pair as it travels."""
        return self.experts.astype("<u2")

    @cached_property
    def wire_gates(self) -> npt.NDArray[np.float32]:
        """Return the gate of each pair as it travels."""
        gates: npt.NDArray[np.float32] = self._gates.detach().numpy().reshape(-1)
        return gates

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

    def result(self) -> Tensor:
        """Return the routed sum [N, hidden] in the dtype of the rows."""
        if not self._answers:  # no row at all
            return torch.zeros_like(self.rows)
        return self._summed() if self.reduced else combine(self._outputs(), self._gates)

    def _outputs(self) -> Tensor:
        """Return the output of each pair, [N, k, hidden]."""
        width = self.rows.shape[1] * self.reply_dtype.itemsize
        buffer = np.empty((len(self.experts), width), dtype=np.uint8)
        for positions, data in self._answers:
            buffer[positions] = np.frombuffer(data, np.uint8).reshape(-1, width)
        return torch.from_numpy(buffer).view(self.reply_dtype).view(self.num_rows, self.k, -1)

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

    @cached_property
    def _starts(self) -> Positions:
        """Return where in `positions` each row begins."""
        if self.pending.num_rows == 1:
            return np.zeros(1, dtype=np.int64)
        rows = self.positions // self.pending.k
        return np.concatenate(([0], np.flatnonzero(rows[1:] != rows[:-1]) + 1))

    @property
    def num_rows(self) -> int:
        """Return how many rows it has."""
        return len(self._starts)

    def split(self, max_rows: int, max_pairs: int) -> "list[Part]":
        """Return parts of at most `max_rows` rows and about `max_pairs` pairs, cut between rows."""
        if len(self.positions) <= max_pairs and self.num_rows <= max_rows:
            return [self]
        limit = max(1, min(max_rows, max_pairs // self.pending.k))
        pieces = np.split(self.positions, self._starts[limit::limit])
        return [Part(self.pending, piece, self.avoid) for piece in pieces]

    def message(self, weight_version: int, now: float) -> pb.StreamRequest:
        """Return the batch; `sequence` is set already."""
        pending, positions = self.pending, self.positions
        tensor, crc = self._rows()
        offsets = np.append(self._starts, len(positions)).astype("<u4").tobytes()
        experts = pending.wire_experts[positions].tobytes()
        gates = pending.wire_gates[positions].tobytes()
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

    def _rows(self) -> tuple[tensor_pb2.Tensor, int]:
        if self.num_rows == self.pending.num_rows:
            return self.pending.whole_rows
        used = self.positions[self._starts] // self.pending.k
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


def _checked(rows: Tensor) -> tuple[tensor_pb2.Tensor, int]:
    """Return the message of `rows` and the CRC32C of its data."""
    tensor = to_proto(rows)
    return tensor, google_crc32c.value(tensor.data)
