"""A dispatch in parts: what each shard is sent, and how answers come together."""

import numpy as np
import pytest
import torch

from glm5.v1 import expert_service_pb2 as pb
from glm5_model.exchange import Dispatch
from glm5_model.experts import combine
from glm5_wire.errors import InvalidRequest
from glm5_wire.tensors.codec import from_proto, to_bytes, to_proto
from glm5_wire.tensors.parts import Part, Pending
from support_work import library_messages

K, HIDDEN = 3, 4


def wanted_gates(num_rows: int) -> torch.Tensor:
    return torch.rand(num_rows, K, generator=torch.Generator().manual_seed(num_rows + 1))


def pending_of(num_rows: int, reduced: bool = False) -> Pending:
    generator = torch.Generator().manual_seed(num_rows)
    ids = torch.rand(num_rows, 16, generator=generator).topk(K).indices.sort().values
    rows = torch.randn(num_rows, HIDDEN, generator=generator)
    gates = wanted_gates(num_rows)
    return Pending(Dispatch(5, rows, ids, gates), pb.LANE_DECODE, reduced, 1e9, "")


def test_pending_needs_no_running_shards() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        pending_of(1)


@pytest.mark.parametrize("by", ["library", "protobuf"])
async def test_a_row_is_sent_once_with_the_experts_of_the_shard(by: str) -> None:
    pending = pending_of(3)
    written = Part(pending, np.array([0, 2, 7])).message(4, 0.0, library_messages() if by == "library" else None)
    batch = pb.StreamRequest.FromString(written).batch
    assert torch.equal(from_proto(batch.rows), pending.rows[[0, 2]])
    assert np.frombuffer(batch.row_offsets, "<u4").tolist() == [0, 2, 3]
    assert np.frombuffer(batch.expert_ids, "<u2").tolist() == pending.experts[[0, 2, 7]].tolist()
    assert np.frombuffer(batch.gates, "<f4").tolist() == wanted_gates(3).reshape(-1)[[0, 2, 7]].tolist()
    assert batch.weight_version == 4


@pytest.mark.parametrize("num_rows", [1, 2, 9])
async def test_answers_in_any_order_give_the_same_sum(num_rows: int) -> None:
    by = library_messages()
    outputs = torch.randn(num_rows * K, HIDDEN, generator=torch.Generator().manual_seed(0))
    wanted = combine(outputs.view(num_rows, K, HIDDEN), wanted_gates(num_rows))
    for cut in range(1, num_rows * K):
        for order in ((0, 1), (1, 0)):
            pending = pending_of(num_rows)
            pieces = np.split(np.random.default_rng(cut).permutation(num_rows * K), [cut])
            for index in order:
                positions = np.sort(pieces[index])
                pending.add(Part(pending, positions), to_bytes(outputs[torch.from_numpy(positions)]))
            assert pending.done.done()
            assert torch.equal(pending.result(), wanted)
            assert torch.equal(pending.result(by), wanted)


async def test_reduced_answers_are_summed_in_an_order_that_does_not_depend_on_arrival() -> None:
    sums = [torch.randn(4, HIDDEN, generator=torch.Generator().manual_seed(seed)) for seed in range(K)]
    results = []
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        pending = pending_of(4, reduced=True)
        for index in order:
            pending.add(Part(pending, np.arange(4) * K + index), to_bytes(sums[index]))
        results.append(pending.result())
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    assert torch.allclose(results[0], sums[0] + sums[1] + sums[2])


async def test_a_large_part_is_split_between_rows() -> None:
    pending = pending_of(10)
    pieces = Part(pending, np.arange(10 * K)).split(max_rows=4, max_pairs=1000)
    assert [piece.num_rows for piece in pieces] == [4, 4, 2]
    assert np.concatenate([piece.positions for piece in pieces]).tolist() == list(range(10 * K))
    assert [piece.num_rows for piece in Part(pending, np.arange(10 * K)).split(100, 2 * K)] == [2] * 5


@pytest.mark.parametrize(
    ("rows", "words"),
    [(torch.zeros(2, HIDDEN), "wanted"), (torch.zeros(3, HIDDEN, dtype=torch.bfloat16), "wanted")],
)
async def test_an_answer_of_the_wrong_shape_or_type_is_refused(rows: torch.Tensor, words: str) -> None:
    import google_crc32c

    tensor = to_proto(rows)
    result = pb.Result(rows=tensor, crc32c=google_crc32c.value(tensor.data))
    with pytest.raises(InvalidRequest, match=words):
        Part(pending_of(3), np.arange(3)).parse(result)


async def test_a_damaged_answer_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="checksum"):
        Part(pending_of(3), np.arange(3)).parse(pb.Result(rows=to_proto(torch.zeros(3, HIDDEN)), crc32c=1))
