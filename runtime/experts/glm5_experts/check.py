"""A batch from the wire, checked and viewed as arrays; nothing of it is copied but the indices."""

import time
from collections.abc import Callable

import google_crc32c
import numpy as np
import numpy.typing as npt
import torch

from glm5.v1 import expert_service_pb2 as pb
from glm5_experts.refusal import Refusal
from glm5_experts.work import Answer, Arrays, Lane, Work
from glm5_wire.errors import InvalidRequest
from glm5_wire.tensors.codec import element_type, from_proto
from glm5_wire.tensors.messages import Order, Task, messages

MAX_DECODE_ROWS = 1024
MAX_PREFILL_ROWS = 512
"""A larger product would keep decode waiting; half of it takes as long on a CPU, where reading weights dominates."""


def max_rows(lane: Lane) -> int:
    """Return how many rows one batch of `lane` may have."""
    return MAX_DECODE_ROWS if lane == pb.LANE_DECODE else MAX_PREFILL_ROWS


class Checker:
    """Knows what this shard holds and refuses what does not fit.

    Args:
        name: of the shard, for messages.
        held: experts held, by layer; the same for every message.
        num_experts: routed experts of a layer.
        hidden: width of a row.
        dtype: of a row.
        weight_version: held here.
        reduced_allowed: numerics is `fast`.
    """

    def __init__(
        self,
        name: str,
        held: dict[int, tuple[int, ...]],
        num_experts: int,
        hidden: int,
        dtype: torch.dtype,
        weight_version: int,
        reduced_allowed: bool,
    ) -> None:
        self._name, self._num_experts, self._hidden, self._dtype = name, num_experts, hidden, dtype
        self._weight_version, self._reduced_allowed = weight_version, reduced_allowed
        self._held = {layer: np.isin(np.arange(num_experts), experts) for layer, experts in held.items()}
        self._messages = messages()
        self._expected = weight_version, element_type(dtype), hidden

    def usual(self, message: bytes, lane: Lane, answer: Callable[[int], Answer]) -> Work | None:
        """Return the work of a message if it is a valid batch of the usual kind; any other is for `work`.

        Args:
            message: a StreamRequest.
            lane: of the stream.
            answer: returns who takes the answer, by sequence.
        """
        library = self._messages
        order = library.read_batch(message) if library is not None else None
        if library is None or order is None or not self._is_usual(order, lane):
            return None
        held, trace = self._held.get(order.layer), message[order.trace : order.trace + order.trace_bytes]
        if held is None or not library.fits(message, order, held) or not trace.isascii():
            return None
        now = time.monotonic()
        places = order.sequence, order.rows, order.count, order.data, order.offsets, order.experts
        return Work(
            sequence=order.sequence,
            layer=order.layer,
            lane=lane,
            num_rows=order.rows,
            pair_experts=np.frombuffer(message, "<u2", order.count, order.experts),
            reduced=False,
            num_bytes=len(message),
            received=now,
            expires=now + order.deadline_ms / 1000 if order.deadline_ms else float("inf"),
            answer=answer(order.sequence),
            read=lambda: self._arrays(message),
            task=Task(message, *places) if self._dtype == torch.float32 else None,
            traceparent=trace.decode(),
        )

    def _arrays(self, message: bytes) -> Arrays:
        """Return what a batch that was checked carries."""
        batch = pb.StreamRequest.FromString(message).batch
        rows, offsets = from_proto(batch.rows, "rows"), np.frombuffer(batch.row_offsets, "<u4")
        return Arrays(rows, np.repeat(np.arange(rows.shape[0]), np.diff(offsets)), np.frombuffer(batch.gates, "<f4"))

    def _is_usual(self, order: Order, lane: Lane) -> bool:
        seen = order.weight_version, order.element_type, order.width
        is_plain = order.reply_mode != pb.REPLY_MODE_REDUCED
        return is_plain and seen == self._expected and 1 <= order.rows <= max_rows(lane)

    def work(self, batch: pb.Batch, lane: Lane, answer: Answer) -> Work:
        """Return `batch` as work for this shard.

        Raises:
            Refusal: INVALID, CORRUPT, STALE_WEIGHTS or NOT_HELD.
        """
        offsets, experts, gates = batch.row_offsets, batch.expert_ids, batch.gates
        data = batch.rows.data
        if _crc(data, offsets, experts, gates) != batch.crc32c:
            raise self._refusal(
                pb.BATCH_ERROR_CORRUPT, batch, "the checksum differs from the sender's", "send it again"
            )
        if batch.weight_version != self._weight_version:
            why = f"the sender expects weight version {batch.weight_version}, held is {self._weight_version}"
            raise self._refusal(pb.BATCH_ERROR_STALE_WEIGHTS, batch, why, "use a shard of that version")
        rows = self._rows(batch, data, lane)
        if len(offsets) % 4 or len(experts) % 2 or len(gates) != 2 * len(experts):
            why = f"{len(offsets)} bytes of offsets, {len(experts)} of expert ids, {len(gates)} of gates"
            raise self._refusal(pb.BATCH_ERROR_INVALID, batch, f"{why} do not fit each other")
        pair_experts = np.frombuffer(experts, "<u2")
        pair_rows = self._pair_rows(batch, np.frombuffer(offsets, "<u4"), rows.shape[0], len(pair_experts))
        self._require_held(batch, pair_experts)
        arrays = Arrays(rows, pair_rows, np.frombuffer(gates, "<f4"))
        now = time.monotonic()
        return Work(
            sequence=batch.sequence,
            layer=batch.layer,
            lane=lane,
            num_rows=rows.shape[0],
            pair_experts=pair_experts,
            reduced=self._is_reduced(batch),
            num_bytes=len(data) + len(offsets) + len(experts) + len(gates),
            received=now,
            expires=now + batch.deadline_ms / 1000 if batch.deadline_ms else float("inf"),
            answer=answer,
            read=lambda: arrays,
            traceparent=batch.traceparent,
        )

    def _rows(self, batch: pb.Batch, data: bytes, lane: Lane) -> torch.Tensor:
        """Return the rows [n, hidden], n from 1 to what the lane allows."""
        try:
            rows = from_proto(batch.rows, "rows", data)
        except InvalidRequest as error:
            raise self._refusal(pb.BATCH_ERROR_INVALID, batch, str(error)) from error
        if rows.ndim != 2 or rows.shape[1] != self._hidden or rows.dtype != self._dtype:
            why = f"rows are {list(rows.shape)} {rows.dtype}, wanted is [n, {self._hidden}] {self._dtype}"
            raise self._refusal(pb.BATCH_ERROR_INVALID, batch, why, "use workers and shards of one compat")
        if not 1 <= rows.shape[0] <= max_rows(lane):
            why = f"it has {rows.shape[0]} rows, allowed are 1 to {max_rows(lane)} on this lane"
            raise self._refusal(pb.BATCH_ERROR_INVALID, batch, why, "split it")
        return rows

    def _pair_rows(
        self, batch: pb.Batch, offsets: npt.NDArray[np.uint32], num_rows: int, num_pairs: int
    ) -> npt.NDArray[np.int64]:
        """Return the row of each pair."""
        ends = offsets.astype(np.int64)
        counts: npt.NDArray[np.int64] = ends[1:] - ends[:-1]
        good = len(counts) == num_rows and offsets[0] == 0 and offsets[-1] == num_pairs and (counts >= 0).all()
        if not good:
            why = f"the {len(offsets)} offsets do not divide {num_pairs} pairs among {num_rows} rows"
            raise self._refusal(pb.BATCH_ERROR_INVALID, batch, why)
        return np.repeat(np.arange(num_rows), counts)

    def _require_held(self, batch: pb.Batch, experts: npt.NDArray[np.uint16]) -> None:
        if len(experts) and experts.max() >= self._num_experts:
            why = f"it names expert {experts.max()}, the model has {self._num_experts} in a layer"
            raise self._refusal(pb.BATCH_ERROR_INVALID, batch, why)
        held = self._held.get(batch.layer)
        if held is None:
            why = f"layer {batch.layer} has no experts here; held are layers {sorted(self._held)}"
            raise self._refusal(pb.BATCH_ERROR_NOT_HELD, batch, why, "route by the holdings of this answer")
        if not held[experts].all():
            missing = np.unique(experts[~held[experts]]).tolist()
            why = f"experts {missing} are not held here"
            raise self._refusal(pb.BATCH_ERROR_NOT_HELD, batch, why, "route by the holdings of this answer")

    def _is_reduced(self, batch: pb.Batch) -> bool:
        reduced = batch.reply_mode == pb.REPLY_MODE_REDUCED
        if reduced and not self._reduced_allowed:
            why = "reduced replies sum on the shard, which numerics `invariant` forbids"
            raise self._refusal(pb.BATCH_ERROR_INVALID, batch, why, "set numerics to fast or reply_mode to rows")
        return reduced

    def _refusal(self, error: "pb.BatchError.ValueType", batch: pb.Batch, why: str, cure: str = "") -> Refusal:
        text = f"batch of layer {batch.layer} refused by {self._name}: {why}"
        return Refusal(error, f"{text}; {cure}" if cure else text)


def _crc(*parts: bytes) -> int:
    """Return the CRC32C of the parts, one after the other."""
    crc = 0
    for part in parts:
        crc = google_crc32c.extend(crc, part)
    return crc
