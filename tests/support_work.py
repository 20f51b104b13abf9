"""Batches for tests of the shard's pure parts."""

from typing import Any

import google_crc32c
import numpy as np
import torch

from glm5.v1 import expert_service_pb2 as pb
from glm5_experts.work import Arrays, Work
from glm5_wire.tensors.codec import to_proto
from glm5_wire.tensors.messages import Messages, messages


def library_messages() -> Messages:
    """Return what writes and reads messages by the compiled library, which must be built."""
    found = messages()
    assert found is not None, "the library is not built"
    return found


def work(
    name: int, layer: int = 0, lane: "pb.Lane.ValueType" = pb.LANE_DECODE, num_rows: int = 1, **fields: Any
) -> Work:
    """Return a batch of `num_rows` rows of 10 bytes each in the queue."""
    answers: list[pb.StreamResponse] = fields.pop("answers", [])
    arrays = Arrays(torch.zeros(num_rows, 4), np.arange(num_rows), np.ones(num_rows, np.float32))
    values: dict[str, Any] = {
        "sequence": name,
        "layer": layer,
        "lane": lane,
        "num_rows": num_rows,
        "pair_experts": np.zeros(num_rows, np.int64),
        "read": lambda: arrays,
        "reduced": False,
        "num_bytes": 10 * num_rows,
        "received": 0.0,
        "expires": float("inf"),
        "answer": answers.append,
    }
    return Work(**(values | fields))


def batch(experts: list[list[int]], **fields: Any) -> pb.Batch:
    """Return a valid message of rows [n, 4]; row i goes to experts[i]. `fields` are set before the checksum."""
    counts = [0, *(len(row) for row in experts)]
    flat = [expert for row in experts for expert in row]
    message = pb.Batch(
        sequence=1,
        layer=3,
        weight_version=1,
        rows=to_proto(torch.arange(len(experts) * 4, dtype=torch.float32).view(-1, 4)),
        row_offsets=np.cumsum(counts).astype("<u4").tobytes(),
        expert_ids=np.array(flat, dtype="<u2").tobytes(),
        gates=np.linspace(0.1, 1.0, len(flat), dtype="<f4").tobytes(),
        reply_mode=pb.REPLY_MODE_ROWS,
    )
    for name in fields:
        message.ClearField(name)
    message.MergeFrom(pb.Batch(**fields))
    crc = 0
    for part in (message.rows.data, message.row_offsets, message.expert_ids, message.gates):
        crc = google_crc32c.extend(crc, part)
    message.crc32c = crc
    return message
