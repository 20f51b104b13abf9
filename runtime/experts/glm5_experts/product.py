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
from glm5_model.kernels.native.kernels import NativeKernels
from glm5_wire.tensors.codec import element_type, fill, to_bytes
from glm5_wire.tensors.messages import Answer, Messages, messages


@dataclass(frozen=True, slots=True)
class Product:
    """What came out."""

    answers: list[bytes]
    """A StreamResponse for each batch, in order."""
    seconds: float
    """Spent computing, without making the answers."""


class Products:
    """Computes with the weights of a shard. Not for several threads at once: memory is used again."""

    def __init__(self, weights: ExpertWeights, kernels: Kernels) -> None:
        self._weights, self._kernels, self._messages = weights, kernels, messages()
        self._serves = isinstance(kernels, NativeKernels)

    def compute(self, works: list[Work], began: float) -> Product:
        """Return the answers to batches of one layer, computed as one product; `began` (monotonic) ended their wait."""
        tasks = [work.task for work in works if work.task is not None]
        if self._messages is None or not self._serves or len(tasks) < len(works):
            return self._plain(works, began)
        for work, task in zip(works, tasks, strict=True):
            task.queue_us = _microseconds(began - work.received)
        experts = self._weights.compiled(works[0].layer)
        return Product(*self._messages.serve(experts, tasks, experts[0].in_))

    def _plain(self, works: list[Work], began: float) -> Product:
        """Do the same in more steps, with any kernels."""
        start = perf_counter()
        rows, pair_rows, pair_experts = _joined(works)
        kernels, weights = self._kernels, self._weights
        with torch.inference_mode():
            outputs = weights.product(works[0].layer, rows.to(kernels.device), pair_rows, pair_experts, kernels).cpu()
        seconds = perf_counter() - start
        answers = []
        first = 0
        for work in works:
            own = outputs[first : first + work.num_pairs] if len(works) > 1 else outputs
            first += work.num_pairs
            answer = Answer(
                sequence=work.sequence,
                queue_us=_microseconds(began - work.received),
                compute_us=_microseconds(seconds),
                coalesced=len(works),
            )
            answers.append(_message(answer, _reduced(work, own) if work.reduced else own, self._messages))
        return Product(answers, seconds)


def _joined(works: list[Work]) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows [n, hidden], pair rows [P] and pair experts [P] of all batches together."""
    every = [work.arrays for work in works]
    starts = np.cumsum([0] + [work.num_rows for work in works])
    pair_rows = np.concatenate([one.pair_rows + start for one, start in zip(every, starts, strict=False)])
    pair_experts = np.concatenate([work.pair_experts for work in works]).astype(np.int64)
    rows = torch.cat([one.rows for one in every]) if len(every) > 1 else every[0].rows
    return rows, torch.from_numpy(pair_rows), torch.from_numpy(pair_experts)


def _reduced(work: Work, outputs: Tensor) -> Tensor:
    """Return the weighted sum of each row, float32 [n, hidden]."""
    arrays = work.arrays
    weighted = outputs.to(torch.float32) * torch.from_numpy(arrays.gates.copy())[:, None]
    sums = torch.zeros(work.num_rows, outputs.shape[1], dtype=torch.float32)
    return sums.index_add_(0, torch.from_numpy(arrays.pair_rows), weighted)


def _message(answer: Answer, rows: Tensor, messages: Messages | None) -> bytes:
    """Return a StreamResponse with `rows` [n, hidden]."""
    if messages is None:
        return _plain_message(answer, rows).SerializeToString()
    rows = rows.contiguous()
    answer.element_type, (answer.rows, answer.width) = element_type(rows.dtype), rows.shape
    answer.row_bytes, answer.data = answer.width * rows.itemsize, rows.data_ptr()
    return messages.answer(answer)


def _plain_message(answer: Answer, rows: Tensor) -> pb.StreamResponse:
    """Do the same without the compiled library."""
    data, message = to_bytes(rows), pb.StreamResponse()
    result = message.result
    result.sequence, result.coalesced_batches = answer.sequence, answer.coalesced
    result.queue_us, result.compute_us = answer.queue_us, answer.compute_us
    result.crc32c = google_crc32c.value(data)
    fill(result.rows, rows, data)
    return message


def _microseconds(seconds: float) -> int:
    """Return `seconds` as the wire has them: at most what 32 bits hold."""
    return min(int(seconds * 1e6), 2**32 - 1)
