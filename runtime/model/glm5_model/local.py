"""Driving a forward pass with experts in this process."""

import torch
from torch import Tensor

from glm5_model.errors import ModelError
from glm5_model.exchange import Dispatch, Forward
from glm5_model.experts import ExpertWeights, combine
from glm5_model.kernels import Kernels


def run_local(generator: Forward, experts: ExpertWeights, kernels: Kernels) -> Tensor:
    """Return the logits of a forward pass, [wanted rows, vocab] float32, computing routed experts here.

    Raises:
        NotHeld: the pass needs an expert that `experts` lacks.
    """
    pending: Dispatch | None = None
    answer: Tensor | None = None
    while True:
        try:
            step = generator.send(answer)
        except StopIteration as end:
            logits: Tensor = end.value
            return logits
        answer = None
        if isinstance(step, Dispatch):
            pending = step
            continue
        if pending is None:
            raise ModelError(f"layer {step.layer} collects before it dispatched; this is a bug of the forward pass")
        answer = routed_sum(pending, experts, kernels)
        pending = None


def routed_sum(dispatch: Dispatch, experts: ExpertWeights, kernels: Kernels) -> Tensor:
    """Return the weighted sum of a dispatch's experts, [N, hidden]."""
    rows, k = dispatch.expert_ids.shape
    pair_rows = torch.arange(rows, device=dispatch.rows.device).repeat_interleave(k)
    outputs = experts.product(dispatch.layer, dispatch.rows, pair_rows, dispatch.expert_ids.flatten(), kernels)
    return combine(outputs.view(rows, k, -1), dispatch.gates)
