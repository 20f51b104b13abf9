"""Coalesced batches get the answers that each would get alone."""

import numpy as np
import pytest
import torch

from glm5_experts.product import compute
from glm5_experts.work import Work
from glm5_model.experts import ExpertWeights, LayerExperts
from glm5_model.kernels import Kernels, kernels_for
from glm5_wire.tensors.codec import from_proto
from support_work import work

HIDDEN, WIDTH, HELD = 16, 8, (4, 5, 6, 7)


@pytest.fixture(scope="module")
def weights() -> ExpertWeights:
    generator = torch.Generator().manual_seed(0)
    gate_up = torch.randn(4, HIDDEN, 2 * WIDTH, generator=generator)
    return ExpertWeights({3: LayerExperts(HELD, gate_up, torch.randn(4, WIDTH, HIDDEN, generator=generator))})


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    return kernels_for("cpu", "invariant", torch.float32)


def batch_of(seed: int, num_rows: int, reduced: bool = False) -> Work:
    draw = np.random.default_rng(seed)
    pair_rows = np.sort(draw.integers(0, num_rows, 2 * num_rows))
    return work(
        seed,
        layer=3,
        rows=torch.randn(num_rows, HIDDEN, generator=torch.Generator().manual_seed(seed)),
        pair_rows=pair_rows,
        pair_experts=draw.choice(HELD, 2 * num_rows),
        gates=draw.random(2 * num_rows, dtype=np.float32),
        reduced=reduced,
    )


def test_batches_together_have_the_bits_of_batches_alone(weights: ExpertWeights, kernels: Kernels) -> None:
    works = [batch_of(seed, 1 + seed) for seed in range(5)]
    together = compute(works, weights, kernels)
    for single, answer in zip(works, together.answers, strict=True):
        [alone] = compute([single], weights, kernels).answers
        assert answer.result.sequence == single.sequence
        assert answer.result.coalesced_batches == 5
        assert answer.result.rows.data == alone.result.rows.data


def test_a_reduced_answer_is_the_weighted_sum_of_each_row(weights: ExpertWeights, kernels: Kernels) -> None:
    rows_work, reduced_work = batch_of(1, 6), batch_of(1, 6, reduced=True)
    [full] = compute([rows_work], weights, kernels).answers
    [summed] = compute([reduced_work], weights, kernels).answers
    outputs, sums = from_proto(full.result.rows), from_proto(summed.result.rows)
    for row in range(6):
        mine = torch.from_numpy(rows_work.pair_rows == row)
        wanted = (outputs[mine] * torch.from_numpy(rows_work.gates)[mine][:, None]).sum(0)
        assert torch.allclose(sums[row], wanted, atol=1e-5)
