"""Messages of the compiled library are protobuf's, and what it takes, protobuf reads in the same way."""

import google_crc32c
import numpy as np
import pytest
import torch
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from glm5.v1 import expert_service_pb2 as pb
from glm5_model.exchange import Dispatch
from glm5_wire.tensors.codec import to_proto
from glm5_wire.tensors.messages import Answer, Order
from glm5_wire.tensors.parts import Part, Pending
from support_work import library_messages

ROWS, K, WIDTH = 5, 3, 4
GOOD = pb.Result(sequence=7, rows=to_proto(torch.arange(12.0).view(3, 4)), queue_us=300, compute_us=5)
GOOD.crc32c = google_crc32c.value(GOOD.rows.data)
ANSWER = pb.StreamResponse(result=GOOD).SerializeToString()


def part(positions: list[int], dtype: torch.dtype = torch.float32, trace: str = "") -> Part:
    generator = torch.Generator().manual_seed(len(positions))
    ids = torch.rand(ROWS, 300, generator=generator).topk(K).indices.sort().values
    rows, gates = torch.randn(ROWS, WIDTH, generator=generator).to(dtype), torch.rand(ROWS, K, generator=generator)
    made = Part(Pending(Dispatch(3, rows, ids, gates), pb.LANE_DECODE, False, 100.0, trace), np.array(positions))
    made.sequence = 1000
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("trace", ["", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"])
@pytest.mark.parametrize("positions", [[0], [0, 1, 2], [2, 3, 14], list(range(ROWS * K))])
async def test_a_batch_is_written_as_protobuf_writes_it(positions: list[int], trace: str, dtype: torch.dtype) -> None:
    one = part(positions, dtype, trace)
    assert one.message(9, 1.5, library_messages()) == one.message(9, 1.5, None)


async def test_a_batch_is_read_as_protobuf_reads_it() -> None:
    data = part([1, 3, 4, 14], trace="t").message(9, 1.5, None)
    order = library_messages().read_batch(data)
    assert order is not None
    same_batch(order, data)


def same_batch(order: Order, data: bytes) -> None:
    batch = pb.StreamRequest.FromString(data).batch
    for name in ("sequence", "layer", "weight_version", "reply_mode", "deadline_ms"):
        assert getattr(order, name) == getattr(batch, name), name
    assert [order.rows, order.width] == list(batch.rows.shape)
    assert order.element_type == batch.rows.element_type
    starts = {"data": batch.rows.data, "offsets": batch.row_offsets, "experts": batch.expert_ids, "gates": batch.gates}
    for name, wanted in starts.items():
        begin = getattr(order, name)
        assert data[begin : begin + len(wanted)] == wanted, name
    assert order.count == len(batch.expert_ids) // 2 == len(batch.gates) // 4
    assert len(batch.row_offsets) == 4 * (order.rows + 1)
    assert data[order.trace : order.trace + order.trace_bytes].decode() == batch.traceparent


@given(edit=st.one_of(st.tuples(st.integers(0, 400), st.integers(0, 255)), st.integers(0, 400)))
async def test_a_damaged_batch_is_left_to_protobuf_or_read_as_it_does(edit: tuple[int, int] | int) -> None:
    good = part(list(range(ROWS * K))).message(9, 1.5, None)
    data = damaged(good, edit)
    order = library_messages().read_batch(data)
    if order is not None:
        same_batch(order, data)


@given(edit=st.one_of(st.tuples(st.integers(0, 100), st.integers(0, 255)), st.integers(0, 100)))
def test_a_damaged_answer_is_left_to_protobuf_or_read_as_it_does(edit: tuple[int, int] | int) -> None:
    data = damaged(ANSWER, edit)
    reply = library_messages().read_answer(data)
    if reply is None:
        return
    result = pb.StreamResponse.FromString(data).result
    assert (reply.sequence, reply.element_type) == (result.sequence, result.rows.element_type)
    assert [reply.rows, reply.width] == list(result.rows.shape)
    assert data[reply.data : reply.data + len(result.rows.data)] == result.rows.data
    assert result.crc32c == google_crc32c.value(result.rows.data)


def damaged(good: bytes, edit: tuple[int, int] | int) -> bytes:
    """Return `good` cut off somewhere, or with another byte somewhere."""
    if isinstance(edit, int):
        return good[: edit % len(good)]
    place, byte = edit[0] % len(good), edit[1]
    return good[:place] + bytes([byte]) + good[place + 1 :]


@pytest.mark.parametrize(
    "message",
    [
        pb.StreamResponse(progress=pb.Progress(counter=3)),
        pb.StreamResponse(failure=pb.Failure(sequence=1, message="no")),
        pb.StreamResponse(result=pb.Result(sequence=1)),
        pb.StreamResponse(result=pb.Result(sequence=1, rows=GOOD.rows, crc32c=GOOD.crc32c + 1)),
    ],
)
def test_other_answers_are_left_to_protobuf(message: pb.StreamResponse) -> None:
    assert library_messages().read_answer(message.SerializeToString()) is None


def test_an_answer_is_written_as_protobuf_writes_it() -> None:
    rows = torch.arange(12.0).view(3, 4)
    answer = Answer(
        sequence=7, element_type=1, rows=3, width=4, row_bytes=16, queue_us=300, compute_us=5, data=rows.data_ptr()
    )
    assert library_messages().answer(answer) == ANSWER


def test_memory_grows_with_what_is_written() -> None:
    rows = torch.randn(400, 512)
    answer = Answer(sequence=7, element_type=1, rows=400, width=512, row_bytes=2048, data=rows.data_ptr())
    result = pb.StreamResponse.FromString(library_messages().answer(answer)).result
    assert result.rows.data == rows.numpy().tobytes()
    assert result.crc32c == google_crc32c.value(result.rows.data)


def test_what_is_no_message_at_all_is_left_to_protobuf() -> None:
    for data in (b"", b"\xff", b"\x12", b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", bytes(range(256))):
        assert library_messages().read_batch(data) is None
        assert library_messages().read_answer(data) is None
    with pytest.raises(DecodeError):
        pb.StreamRequest.FromString(b"\xff")
