"""The router."""

import torch
from torch import Tensor

from glm5_model.config import ModelConfig
from glm5_model.kernels import Kernels
from glm5_model.top_k import top_k_ascending
from glm5_model.weights import MoeWeights


def route(rows: Tensor, weights: MoeWeights, config: ModelConfig, kernels: Kernels) -> tuple[Tensor, Tensor]:
    """Return each row's experts and their gates.

    Args:
        rows: [N, hidden].
        weights: of a sparse layer.
        config: of the model.
        kernels: how to multiply.

    Returns:
        expert ids [N, k] int64, ascending in each row, and gates [N, k] float32.
    """
    # float32: bfloat16 scores reorder ties among the experts.
    scores = kernels.sigmoid(kernels.linear(rows.to(torch.float32), weights.router))  # [N, experts]
    chosen = top_k_ascending(scores + weights.bias, config.num_experts_per_tok)
    gates = scores.gather(1, chosen)  # without the bias
    if config.norm_topk_prob:
        gates = gates / (gates.sum(-1, keepdim=True) + 1e-20)
    return chosen, gates * config.routed_scaling_factor
