"""Every kind of wrong batch is refused by its name; no row meets a wrong expert."""

from typing import Any

import numpy as np
import pytest
import torch

from glm5.v1 import expert_service_pb2 as pb
from glm5_experts.check import MAX_PREFILL_ROWS, Checker
from glm5_experts.refusal import Refusal
from glm5_experts.work import Work
from glm5_wire.tensors.codec import to_proto
from support_work import batch


def checker(reduced_allowed: bool = False) -> Checker:
    return Checker("shard-0", {3: (4, 5, 6, 7)}, 8, 4, torch.float32, 1, reduced_allowed)


def usual(message: pb.Batch, lane: "pb.Lane.ValueType" = pb.LANE_DECODE) -> Work | None:
    data = pb.StreamRequest(batch=message).SerializeToString()
    return checker().usual(data, lane, lambda sequence: lambda answer: None)


def refusal(message: pb.Batch, lane: "pb.Lane.ValueType" = pb.LANE_DECODE) -> Refusal:
    assert usual(message, lane) is None, "the library takes it"
    with pytest.raises(Refusal) as caught:
        checker().work(message, lane, lambda answer: None)
    return caught.value


def test_a_valid_batch_becomes_pairs_of_rows_and_experts() -> None:
    work = checker().work(batch([[4, 6], [], [5, 6, 7]]), pb.LANE_DECODE, lambda answer: None)
    assert work.arrays.pair_rows.tolist() == [0, 0, 2, 2, 2]
    assert work.pair_experts.tolist() == [4, 6, 5, 6, 7]
    assert torch.equal(work.arrays.rows, torch.arange(12.0).view(3, 4))
    assert work.expires == float("inf")


def test_a_usual_batch_is_read_in_one_call_with_the_same_result() -> None:
    generator = np.random.default_rng(5)
    for sizes in generator.integers(0, 5, (50, 6)):
        experts = [sorted(generator.choice([4, 5, 6, 7], size, replace=False).tolist()) for size in sizes]
        message = batch(experts, deadline_ms=1500, traceparent="t")
        one, other = usual(message), checker().work(message, pb.LANE_DECODE, lambda answer: None)
        assert one is not None, "the library is not built"
        assert torch.equal(one.arrays.rows, other.arrays.rows)
        assert np.array_equal(one.arrays.pair_rows, other.arrays.pair_rows)
        assert np.array_equal(one.pair_experts, other.pair_experts)
        assert one.expires - one.received == pytest.approx(other.expires - other.received)
        assert (one.sequence, one.layer, one.traceparent) == (other.sequence, other.layer, other.traceparent)


def test_a_deadline_counts_from_receipt() -> None:
    work = checker().work(batch([[4]], deadline_ms=1500), pb.LANE_DECODE, lambda answer: None)
    assert work.expires - work.received == pytest.approx(1.5)


BFLOAT = to_proto(torch.zeros(2, 4, dtype=torch.bfloat16))
BAD: list[tuple[str, dict[str, Any], "pb.BatchError.ValueType", str]] = [
    ("stale", {"weight_version": 2}, pb.BATCH_ERROR_STALE_WEIGHTS, "expects weight version 2, held is 1"),
    ("layer", {"layer": 9}, pb.BATCH_ERROR_NOT_HELD, r"layer 9 has no experts here; held are layers \[3\]"),
    (
        "dtype",
        {"rows": to_proto(torch.zeros(2, 4, dtype=torch.bfloat16))},
        pb.BATCH_ERROR_INVALID,
        r"wanted is \[n, 4\] torch.float32",
    ),
    ("offsets", {"row_offsets": np.array([0, 1, 9], "<u4").tobytes()}, pb.BATCH_ERROR_INVALID, "do not divide"),
    ("decreasing", {"row_offsets": np.array([0, 3, 2], "<u4").tobytes()}, pb.BATCH_ERROR_INVALID, "do not divide"),
    ("ragged", {"row_offsets": b"123"}, pb.BATCH_ERROR_INVALID, "do not fit each other"),
    ("gates", {"gates": b"1234"}, pb.BATCH_ERROR_INVALID, "do not fit each other"),
    ("reduced", {"reply_mode": pb.REPLY_MODE_REDUCED}, pb.BATCH_ERROR_INVALID, "set numerics to fast"),
]


@pytest.mark.parametrize(("fields", "error", "words"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_wrong_batch_is_refused(fields: dict[str, Any], error: "pb.BatchError.ValueType", words: str) -> None:
    caught = refusal(batch([[4], [5]], **fields))
    assert caught.error == error
    with pytest.raises(Refusal, match=words):
        raise caught


def test_an_expert_of_another_shard_is_never_computed_with_a_wrong_one() -> None:
    caught = refusal(batch([[3, 4]]))
    assert caught.error == pb.BATCH_ERROR_NOT_HELD
    assert "experts [3] are not held here" in str(caught)


def test_an_expert_that_the_model_lacks_is_invalid() -> None:
    caught = refusal(batch([[4, 8]]))
    assert caught.error == pb.BATCH_ERROR_INVALID
    assert "names expert 8, the model has 8" in str(caught)


def test_a_flipped_bit_is_noticed() -> None:
    message = batch([[4], [5]])
    data = bytearray(message.rows.data)
    data[5] ^= 1
    message.rows.data = bytes(data)
    assert refusal(message).error == pb.BATCH_ERROR_CORRUPT


def test_a_prefill_batch_with_too_many_rows_is_told_to_split() -> None:
    message = batch([[4]] * (MAX_PREFILL_ROWS + 1))
    assert "split it" in str(refusal(message, pb.LANE_PREFILL))
    checker().work(message, pb.LANE_DECODE, lambda answer: None)


def test_reduced_replies_are_allowed_with_fast_numerics() -> None:
    message = batch([[4], [5]], reply_mode=pb.REPLY_MODE_REDUCED)
    assert checker(reduced_allowed=True).work(message, pb.LANE_DECODE, lambda answer: None).reduced
