"""Coalesced batches get the answers that each would get alone, by whichever way they are computed."""

import google_crc32c
import numpy as np
import pytest
import torch

from glm5.v1 import expert_service_pb2 as pb
from glm5_experts.check import Checker
from glm5_experts.product import Products
from glm5_experts.work import Work
from glm5_model.experts import ExpertWeights, LayerExperts
from glm5_model.kernels import kernels_for
from glm5_wire.tensors.codec import from_proto
from support_work import batch

HIDDEN, WIDTH, HELD = 4, 24, (4, 5, 6, 7)
BEGAN = 1e9
"""Long after any batch was received."""


@pytest.fixture(scope="module")
def weights() -> ExpertWeights:
    generator = torch.Generator().manual_seed(0)
    gate_up = torch.randn(4, HIDDEN, 2 * WIDTH, generator=generator)
    return ExpertWeights({3: LayerExperts(HELD, gate_up, torch.randn(4, WIDTH, HIDDEN, generator=generator))})


def products(weights: ExpertWeights) -> Products:
    return Products(weights, kernels_for("cpu", "invariant", torch.float32))


def message(seed: int, num_rows: int, reduced: bool = False) -> pb.Batch:
    draw = np.random.default_rng(seed)
    counts = draw.integers(0, 5, num_rows)
    experts = [sorted(draw.choice(HELD, count, replace=False).tolist()) for count in counts]
    mode = pb.REPLY_MODE_REDUCED if reduced else pb.REPLY_MODE_ROWS
    return batch(experts, sequence=seed + 1, reply_mode=mode)


def usual(message: pb.Batch) -> Work:
    data = pb.StreamRequest(batch=message).SerializeToString()
    work = checker().usual(data, pb.LANE_DECODE, lambda sequence: lambda answer: None)
    assert work is not None, "the library is not built"
    return work


def plain(message: pb.Batch) -> Work:
    return checker().work(message, pb.LANE_DECODE, lambda answer: None)


def checker() -> Checker:
    return Checker("shard-0", {3: HELD}, 8, HIDDEN, torch.float32, 1, reduced_allowed=True)


def results(products: Products, works: list[Work]) -> list[pb.Result]:
    answers = products.compute(works, BEGAN).answers
    return [pb.StreamResponse.FromString(answer).result for answer in answers]


@pytest.mark.parametrize("way", [usual, plain])
def test_batches_together_have_the_bits_of_batches_alone(weights: ExpertWeights, way: type[Work]) -> None:
    messages = [message(seed, 1 + seed % 4) for seed in range(12)]
    found = results(products(weights), list(map(way, messages)))
    for sent, together in zip(messages, found, strict=True):
        [alone] = results(products(weights), [way(sent)])
        assert together.sequence == sent.sequence
        assert together.coalesced_batches == 12
        assert together.queue_us > 0
        assert together.rows == alone.rows
        assert together.crc32c == google_crc32c.value(alone.rows.data)


def test_every_way_of_computing_gives_the_same_bits(weights: ExpertWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [message(seed, 1 + seed % 4) for seed in range(12)]
    in_one_call = results(products(weights), list(map(usual, messages)))
    in_steps = results(products(weights), list(map(plain, messages)))
    mixed = results(products(weights), [usual(messages[0]), *map(plain, messages[1:])])
    monkeypatch.setattr("glm5_experts.product.messages", lambda: None)
    by_protobuf = results(products(weights), list(map(plain, messages)))
    for ways in zip(in_one_call, in_steps, mixed, by_protobuf, strict=True):
        assert len({(way.sequence, way.rows.SerializeToString(), way.crc32c) for way in ways}) == 1


def test_a_row_gets_the_output_of_its_expert(weights: ExpertWeights) -> None:
    [found] = results(products(weights), [usual(batch([[4, 6], [], [5]]))])
    rows = torch.arange(12.0).view(3, 4)
    wanted = products(weights)._plain([plain(batch([[4], [], []])), plain(batch([[6], [], [5]]))], BEGAN).answers
    first, others = (from_proto(pb.StreamResponse.FromString(answer).result.rows) for answer in wanted)
    assert torch.equal(from_proto(found.rows), torch.cat([first, others]))
    gate, up = (rows[0] @ weights._layers[3].gate_up[0]).chunk(2)
    assert torch.allclose(first[0], (torch.nn.functional.silu(gate) * up) @ weights._layers[3].down[0], atol=1e-4)


def test_a_reduced_answer_is_the_weighted_sum_of_each_row(weights: ExpertWeights) -> None:
    work = plain(message(1, 6))
    [full] = results(products(weights), [work])
    [summed] = results(products(weights), [plain(message(1, 6, reduced=True))])
    outputs, sums = from_proto(full.rows), from_proto(summed.rows)
    for row in range(6):
        mine = torch.from_numpy(work.arrays.pair_rows == row)
        wanted = (outputs[mine] * torch.from_numpy(work.arrays.gates.copy())[mine][:, None]).sum(0)
        assert torch.allclose(sums[row], wanted, atol=1e-5)
