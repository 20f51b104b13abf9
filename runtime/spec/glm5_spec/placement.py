"""Which shard holds which experts where nothing else is said: a pure function of its index and their number."""


def slice_of(shard: int, num_shards: int, num_experts: int) -> range:
    """Return the experts of a shard, the same in every layer: contiguous runs whose lengths differ by one at most.

    Args:
        shard: index in the group, from 0.
        num_shards: shards of the group.
        num_experts: routed experts of a layer.

    Raises:
        ValueError: the index or the number makes no sense.
    """
    if not 0 <= shard < num_shards:
        raise ValueError(
            f"shard {shard} of {num_shards}: the index must be 0 to {num_shards - 1}; check experts.shards"
        )
    if num_shards > num_experts:
        raise ValueError(f"{num_shards} shards for {num_experts} experts: some would be empty; lower experts.shards")
    return range(shard * num_experts // num_shards, (shard + 1) * num_experts // num_shards)
