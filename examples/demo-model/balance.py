"""Keeps all experts busy without a loss term: the correction bias goes up for idle ones and down for the others."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import GlmMoeDsaForCausalLM


class Balancer:
    """Counts the choices of every router during a step and corrects its bias after it."""

    def __init__(self, model: GlmMoeDsaForCausalLM) -> None:
        self._routers = [layer.mlp.gate for layer in model.model.layers if hasattr(layer.mlp, "gate")]
        self._loads = [torch.zeros(router.num_experts) for router in self._routers]
        pairs = zip(self._routers, self._loads, strict=True)
        self._hooks = [router.register_forward_hook(_count(load)) for router, load in pairs]

    def close(self) -> None:
        """Count no more."""
        for hook in self._hooks:
            hook.remove()

    def step(self, rate: float) -> None:
        """Move every bias by `rate` towards an even load, and begin to count anew."""
        with torch.no_grad():
            for router, load in zip(self._routers, self._loads, strict=True):
                router.e_score_correction_bias += rate * torch.sign(load.mean() - load)
                load.zero_()


def _count(load: Tensor) -> Any:
    def hook(_: nn.Module, __: Any, output: tuple[Tensor, Tensor, Tensor]) -> None:
        load.add_(torch.bincount(output[2].flatten(), minlength=len(load)).float())

    return hook
