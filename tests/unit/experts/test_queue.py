"""What runs next on a shard, as tables of exact sequences."""

import pytest

from glm5.v1 import expert_service_pb2 as pb
from glm5_experts.queue import MAX_DECODE_RUN, Queue
from glm5_experts.refusal import Refusal
from glm5_experts.work import Work
from support_work import work

DECODE, PREFILL = pb.LANE_DECODE, pb.LANE_PREFILL


def queue_of(*works: Work, max_bytes: int = 1 << 20) -> tuple[Queue, list[int]]:
    expired: list[int] = []
    queue = Queue(max_bytes, lambda late: expired.append(late.sequence))
    for each in works:
        queue.put(each)
    return queue, expired


def names(works: list[Work]) -> list[int]:
    return [each.sequence for each in works]


def test_batches_of_one_layer_run_as_one_product_and_the_oldest_layer_goes_first() -> None:
    queue, _ = queue_of(work(1, layer=5), work(2, layer=3), work(3, layer=5), work(4, layer=3))
    assert [names(queue.take(0.0)) for _ in range(3)] == [[1, 3], [2, 4], []]


def test_decode_goes_before_older_prefill() -> None:
    queue, _ = queue_of(work(1, lane=PREFILL), work(2, lane=DECODE))
    assert [names(queue.take(0.0)) for _ in range(2)] == [[2], [1]]


def test_lanes_are_not_mixed_in_one_product() -> None:
    queue, _ = queue_of(work(1, layer=5, lane=DECODE), work(2, layer=5, lane=PREFILL))
    assert names(queue.take(0.0)) == [1]


def test_the_oldest_prefill_batch_waits_for_eight_decode_products_at_most() -> None:
    queue, _ = queue_of(work(100, lane=PREFILL), *(work(i, layer=i) for i in range(20)))
    order = [names(queue.take(0.0))[0] for _ in range(21)]
    assert order.index(100) == MAX_DECODE_RUN


def test_decode_without_prefill_uses_up_no_patience() -> None:
    queue, _ = queue_of(*(work(i, layer=i) for i in range(20)))
    for _ in range(12):
        queue.take(0.0)
    queue.put(work(100, lane=PREFILL))
    order = [names(queue.take(0.0))[0] for _ in range(9)]
    assert order.index(100) == MAX_DECODE_RUN


def test_prefill_products_have_at_most_512_rows() -> None:
    queue, _ = queue_of(*(work(i, lane=PREFILL, num_rows=200) for i in range(5)))
    assert [names(queue.take(0.0)) for _ in range(3)] == [[0, 1], [2, 3], [4]]


def test_a_full_queue_refuses_and_has_room_again_once_work_was_taken() -> None:
    queue, _ = queue_of(work(1, num_rows=3), work(2, num_rows=2), max_bytes=50)
    with pytest.raises(Refusal, match="50 of 50 bytes wait, the batch has 10") as caught:
        queue.put(work(3))
    assert caught.value.error == pb.BATCH_ERROR_OVERLOADED
    assert names(queue.take(0.0)) == [1, 2]
    queue.put(work(3))
    assert queue.num_bytes == 10


def test_a_batch_larger_than_the_queue_still_fits_alone() -> None:
    queue, _ = queue_of(work(1, num_rows=100), max_bytes=50)
    assert names(queue.take(0.0)) == [1]


def test_expired_and_cancelled_batches_are_dropped_before_compute() -> None:
    late, gone, good = work(1, expires=5.0), work(2), work(3)
    queue, expired = queue_of(late, gone, good)
    gone.cancelled = True
    assert names(queue.take(5.0)) == [3]
    assert expired == [1]
    assert (len(queue), queue.num_bytes) == (0, 0)
