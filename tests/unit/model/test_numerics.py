"""`invariant`: a row has the same bits in every batch, chunking and placement. `fast` is only close."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glm5_model.batch import Batch, SequenceRows
from glm5_model.errors import NumericsError
from glm5_model.exchange import Dispatch
from glm5_model.experts import ExpertWeights, combine
from glm5_model.kernels import Kernels, kernels_for, resolve_dtype
from glm5_model.kernels.invariant import InvariantKernels
from glm5_model.transformer import Transformer
from unit.model.conftest import Served, make_reference, page_table, serve, tokens

CPU = torch.device("cpu")
SHAPES: dict[str, dict[str, Any]] = {
    "several splits, the last one filled up": {"index_topk": 320, "num_hidden_layers": 3},
    "few heads and odd widths": {
        "num_attention_heads": 3,
        "num_key_value_heads": 3,
        "q_lora_rank": 37,
        "qk_nope_head_dim": 5,
        "v_head_dim": 7,
        "index_n_heads": 2,
        "moe_intermediate_size": 9,
        "index_topk": 33,
        "num_hidden_layers": 3,
    },
}


def whole(served: Served, ids: Tensor) -> Tensor:
    """Return the logits of a sequence computed alone and at once."""
    return served.run(served.cache(), SequenceRows(ids, 0, page_table(len(ids)), "all"))


def assert_same_bits(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    different = (ours != theirs).any(-1).nonzero().flatten().tolist()
    assert torch.equal(ours, theirs), f"rows {different[:20]} differ by {(ours - theirs).abs().max()}"


@pytest.mark.parametrize("chunks", [[1] * 40, [31, 2, 1, 36], [40, 30], [69, 1]])
def test_chunks_change_no_bit(served: Served, chunks: list[int]) -> None:
    ids = tokens(sum(chunks), seed=4)
    assert_same_bits(served.chunked(ids, chunks, served.cache(), page_table(70)), whole(served, ids))


def test_neighbours_change_no_bit(served: Served) -> None:
    lengths = [1, 20, 32, 33, 34, 50, 64, 65, 96]
    sequences = [tokens(length, seed=length) for length in lengths]
    alone = [whole(served, ids)[-1] for ids in sequences]
    cache = served.cache()
    tables = [page_table(length, 2 * i) for i, length in enumerate(lengths)]
    for ids, table in zip(sequences[1:], tables[1:], strict=True):
        served.run(cache, SequenceRows(ids[:-1], 0, table, "none"))
    last = [SequenceRows(ids[-1:], len(ids) - 1, table, "last") for ids, table in zip(sequences, tables, strict=True)]
    for part in (last, last[::-1], last[3:5], last[6:7]):
        expected = [alone[last.index(rows)] for rows in part]
        assert_same_bits(served.run(cache, *part), torch.stack(expected))


def test_more_rows_than_a_block_change_no_bit(served: Served) -> None:
    ids = tokens(300, seed=5)
    cache = served.cache()
    others = [SequenceRows(tokens(290, seed=s), 0, page_table(290, 8 * s), "none") for s in (1, 2)]
    together = served.run(cache, others[0], SequenceRows(ids, 0, page_table(300, 40), "all"), others[1])
    assert_same_bits(together, served.chunked(ids, [299, 1], served.cache(), page_table(300)))


@pytest.mark.parametrize("shape", SHAPES)
def test_awkward_shapes_change_no_bit(tmp_path: Path, shape: str) -> None:
    served = serve(make_reference(tmp_path, **SHAPES[shape]).path)
    ids = tokens(420, seed=6)
    expected = whole(served, ids)
    assert_same_bits(served.chunked(ids, [255, 2, 60, 1, 1, 101], served.cache(), page_table(420)), expected)
    cache = served.cache()
    served.run(cache, SequenceRows(ids[:400], 0, page_table(420), "none"))
    served.run(cache, SequenceRows(ids[:30], 0, page_table(64, 10), "none"))
    rows = [SequenceRows(ids[400:401], 400, page_table(420)), SequenceRows(ids[30:31], 30, page_table(64, 10))]
    assert_same_bits(served.run(cache, *rows), expected[[400, 30]])


def test_two_threads_change_no_bit_between_batches(served: Served) -> None:
    ids = tokens(40, seed=7)
    torch.set_num_threads(2)
    try:
        kernels = InvariantKernels(CPU, torch.float32)
        transformer = Transformer(served.config, served.transformer.weights, kernels)
        fresh = Served(transformer, served.experts, kernels, served.config)
        assert_same_bits(fresh.chunked(ids, [38, 1, 1], fresh.cache(), page_table(40)), whole(fresh, ids))
    finally:
        torch.set_num_threads(1)


def test_bfloat16_keeps_its_bits_too(served: Served, reference: Any) -> None:
    half = serve(reference.path, torch.bfloat16)
    ids = tokens(50, seed=8)
    assert_same_bits(half.chunked(ids, [33, 1, 1, 15], half.cache(), page_table(50)), whole(half, ids))


class FixedBlocks(InvariantKernels):
    """As on a machine where no padding makes a product invariant."""

    def _least_of(self, weight: Tensor) -> int | None:
        return None


def test_blocks_of_fixed_size_are_invariant_and_right(served: Served) -> None:
    kernels = FixedBlocks(CPU, torch.float32)
    fixed = Served(
        Transformer(served.config, served.transformer.weights, kernels), served.experts, kernels, served.config
    )
    ids = tokens(70, seed=9)
    logits = whole(fixed, ids)
    assert_same_bits(fixed.chunked(ids, [1, 1, 38, 30], fixed.cache(), page_table(70)), logits)
    assert (logits - whole(served, ids)).abs().max() < 1e-4


@pytest.mark.parametrize("shards", [1, 2, 4, 8])
def test_experts_on_any_number_of_shards_give_the_same_bits(served: Served, shards: int) -> None:
    ids = tokens(40, seed=10)
    per_shard = 16 // shards
    parts = [served.experts.select(tuple(range(first, first + per_shard))) for first in range(0, 16, per_shard)]
    forward = served.transformer.forward(batch_of(ids), served.cache())
    assert_same_bits(drive(forward, parts, served.kernels), whole(served, ids))


def batch_of(ids: Tensor) -> Batch:
    return Batch([SequenceRows(ids, 0, page_table(len(ids)), "all")])


def drive(forward: Any, shards: list[ExpertWeights], kernels: Kernels) -> Tensor:
    """Run a pass as a worker does: each shard sees only the rows that go to it, the sum is taken here."""
    answer, sent = None, None
    while True:
        try:
            step = forward.send(answer)
        except StopIteration as end:
            return end.value
        if isinstance(step, Dispatch):
            answer, sent = None, step
        else:
            answer = combined(sent, shards, kernels)


def combined(sent: Dispatch, shards: list[ExpertWeights], kernels: Kernels) -> Tensor:
    n, k = sent.expert_ids.shape
    outputs = torch.full((n, k, sent.rows.shape[1]), float("nan"))
    for shard in shards:
        mine = torch.isin(sent.expert_ids, torch.tensor(shard.experts(sent.layer)))
        needed = mine.any(1).nonzero().flatten()
        pair_row, pair_place = mine[needed].nonzero(as_tuple=True)
        ids = sent.expert_ids[needed][pair_row, pair_place]
        outputs[needed[pair_row], pair_place] = shard.product(sent.layer, sent.rows[needed], pair_row, ids, kernels)
    return combine(outputs, sent.gates)


def test_fast_is_close_to_invariant(served: Served, reference: Any) -> None:
    ids = tokens(80, seed=11)
    fast = serve(reference.path, numerics="fast")
    assert (whole(fast, ids) - whole(served, ids)).abs().max() < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_this_machine_passes_the_self_test(dtype: torch.dtype) -> None:
    kernels_for("cpu", "invariant", dtype).self_test()


class Leaky(InvariantKernels):
    """A product in which a row feels its neighbours."""

    def linear(self, rows: Tensor, weight: Tensor) -> Tensor:
        return super().linear(rows, weight) + 1e-6 * rows.mean()


def test_the_self_test_finds_a_product_that_feels_its_neighbours() -> None:
    with pytest.raises(NumericsError, match=r"linear.*numerics to 'fast'"):
        Leaky(CPU, torch.float32).self_test()


def test_fingerprints_tell_numerics_and_types_apart_and_are_stable() -> None:
    kinds = [("invariant", torch.float32), ("invariant", torch.bfloat16), ("fast", torch.float32)]
    first = [kernels_for("cpu", *kind).fingerprint for kind in kinds]
    assert first == [kernels_for("cpu", *kind).fingerprint for kind in kinds]
    assert len(set(first)) == len(first)
    assert all(len(text) == 16 for text in first)


def test_a_dtype_is_what_it_is_called_and_auto_is_one_of_them() -> None:
    assert resolve_dtype("float32") == torch.float32
    assert resolve_dtype("bfloat16") == torch.bfloat16
    assert {resolve_dtype("auto") for _ in range(20)} in ({torch.float32}, {torch.bfloat16})
    with pytest.raises(NumericsError, match="float16"):
        resolve_dtype("float16")
    with pytest.raises(NumericsError, match="exact"):
        kernels_for("cpu", "exact", torch.float32)
