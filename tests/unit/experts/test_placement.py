"""The first slice of a shard is a pure function of its index and their number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm5_spec.placement import slice_of


@given(st.integers(1, 64), st.integers(0, 300))
def test_slices_divide_the_experts_without_gap_or_overlap(num_shards: int, more: int) -> None:
    num_experts = num_shards + more
    slices = [slice_of(shard, num_shards, num_experts) for shard in range(num_shards)]
    assert [expert for held in slices for expert in held] == list(range(num_experts))
    assert max(map(len, slices)) - min(map(len, slices)) <= 1


def test_four_shards_of_256_experts_hold_64_each() -> None:
    assert [slice_of(shard, 4, 256) for shard in range(4)] == [range(i, i + 64) for i in (0, 64, 128, 192)]


@pytest.mark.parametrize(("shard", "num_shards", "words"), [(4, 4, "0 to 3"), (-1, 4, "0 to 3"), (0, 9, "lower")])
def test_a_shard_outside_the_group_is_refused(shard: int, num_shards: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        slice_of(shard, num_shards, 8)
