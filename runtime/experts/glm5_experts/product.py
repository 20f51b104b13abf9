"""The grouped product over coalesced batches, and its answers. Runs on the loop or in the step thread."""

from dataclasses import dataclass
from time import perf_counter

import google_crc32c
import numpy as np
import torch
from torch import Tensor

from glm5.v1 import expert_service_pb2 as pb
from glm5_experts.work import Work
from glm5_model.experts import ExpertWeights
from glm5_model.kernels import Kernels
from glm5_wire.tensors.codec import fill, to_bytes


@dataclass(frozen=True, slots=True)
class Product:
    """What came out."""

    answers: list[pb.StreamResponse]
    """One for each batch, in order; `queue_us` is still to be filled in."""
    seconds: float
    """Spent computing, without making the answers."""


def compute(works: list[Work], weights: ExpertWeights, kernels: Kernels) -> Product:
    """Return the answers to batches of one layer, computed as one product."""
    start = perf_counter()
    rows, pair_rows, pair_experts = _joined(works)
    with torch.inference_mode():
        outputs = weights.product(works[0].layer, rows.to(kernels.device), pair_rows, pair_experts, kernels).cpu()
    seconds = perf_counter() - start
    answers = []
    first = 0
    for work in works:
        own = outputs[first : first + len(work.pair_rows)] if len(works) > 1 else outputs
        first += len(work.pair_rows)
        answers.append(_answer(work, _reduced(work, own) if work.reduced else own, seconds, len(works)))
    return Product(answers, seconds)


def _joined(works: list[Work]) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows [n, hidden], pair rows [P] and pair experts [P] of all batches together."""
    if len(works) == 1:
        only = works[0]
        return only.rows, torch.from_numpy(only.pair_rows), torch.from_numpy(only.pair_experts)
    starts = np.cumsum([0] + [work.num_rows for work in works])
    pair_rows = np.concatenate([work.pair_rows + start for work, start in zip(works, starts, strict=False)])
    pair_experts = np.concatenate([work.pair_experts for work in works])
    return torch.cat([work.rows for work in works]), torch.from_numpy(pair_rows), torch.from_numpy(pair_experts)


def _reduced(work: Work, outputs: Tensor) -> Tensor:
    """Return the weighted sum of each row, float32 [n, hidden]."""
    weighted = outputs.to(torch.float32) * torch.from_numpy(work.gates.copy())[:, None]
    sums = torch.zeros(work.num_rows, outputs.shape[1], dtype=torch.float32)
    return sums.index_add_(0, torch.from_numpy(work.pair_rows), weighted)


def _answer(work: Work, rows: Tensor, seconds: float, coalesced: int) -> pb.StreamResponse:
    data, message = to_bytes(rows), pb.StreamResponse()
    result = message.result
    result.sequence, result.coalesced_batches = work.sequence, coalesced
    result.compute_us = int(seconds * 1e6)
    result.crc32c = google_crc32c.value(data)
    fill(result.rows, rows, data)
    return message
