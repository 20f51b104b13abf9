"""Routed experts: what a shard holds and computes, and how a client sums the answers."""

import ctypes
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glm5_model.errors import NotHeld
from glm5_model.kernels import Kernels, LayerExperts
from glm5_model.kernels.native.library import Weight, library

__all__ = ["ExpertWeights", "LayerExperts", "combine"]


class ExpertWeights:
    """Some routed experts of every sparse layer. Stateless: the same rows give the same answer on every holder."""

    def __init__(self, layers: Mapping[int, LayerExperts]) -> None:
        """Hold `layers` by index."""
        self._layers = dict(layers)
        self._slots = {i: _slot_table(held.experts) for i, held in self._layers.items()}

    @property
    def layers(self) -> tuple[int, ...]:
        """Return the indices of the layers, ascending."""
        return tuple(sorted(self._layers))

    def experts(self, layer: int) -> tuple[int, ...]:
        """Return the logical ids held of `layer`, ascending; none where the layer is unknown."""
        return self._layers[layer].experts if layer in self._layers else ()

    def select(self, experts: tuple[int, ...]) -> "ExpertWeights":
        """Return only `experts`, ascending ids that are held here; the tensors are copies.

        Raises:
            NotHeld: one of them is not.
        """
        kept = {}
        for layer, held in self._layers.items():
            slots = self._slots_of(layer, torch.tensor(experts, dtype=torch.int64))
            kept[layer] = LayerExperts(experts, held.gate_up[slots], held.down[slots])
        return ExpertWeights(kept)

    def product(self, layer: int, rows: Tensor, pair_rows: Tensor, pair_experts: Tensor, kernels: Kernels) -> Tensor:
        """Return one unweighted output for each pair of a row and an expert.

        Args:
            layer: index of a sparse layer.
            rows: [n, hidden].
            pair_rows: [P] int64, indices into `rows`.
            pair_experts: [P] int64, logical ids.
            kernels: how to multiply.

        Returns:
            [P, hidden] in the dtype of `rows`, in the order of the pairs.

        Raises:
            NotHeld: a pair names an expert that is not here.
        """
        slots = self._slots_of(layer, pair_experts)
        return kernels.grouped(rows, pair_rows, slots, self._layers[layer])

    def compiled(self, layer: int) -> tuple[Weight, Weight, int, int, int]:
        """Return a layer as the compiled library wants it: weights, how many experts, and their slots by logical id.

        The slots are an address of int64 and how many there are; -1 where an expert is not held.
        """
        held, slots = self._layers[layer], self._slots[layer]
        return *held.compiled, len(held.experts), slots[1:].__array_interface__["data"][0], len(slots) - 1

    def _slots_of(self, layer: int, experts: Tensor) -> Tensor:
        """Return where `experts` [P] lie, [P] int64.

        Raises:
            NotHeld: one of them is not here.
        """
        table, wanted = self._slots.get(layer, _NOTHING), experts.numpy()
        slots = table.take(wanted + 1, mode="clip")
        if np.minimum.reduce(slots, initial=0) < 0:
            raise NotHeld(layer, int(wanted[slots < 0][0]), self.experts(layer))
        return torch.from_numpy(slots)


def _slot_table(experts: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Return at id + 1 the slot of each logical id up to the largest held, -1 for others and at both ends."""
    table = np.full(max(experts, default=-1) + 3, -1, dtype=np.int64)
    table[np.array(experts, dtype=np.int64) + 1] = np.arange(len(experts))
    return table


_NOTHING = _slot_table(())


def combine(outputs: Tensor, gates: Tensor) -> Tensor:
    """Return each row's experts' outputs times their gates, summed in ascending order of k in float32.

    Args:
        outputs: [N, k, hidden].
        gates: [N, k] float32.

    Returns:
        [N, hidden] in the dtype of `outputs`.
    """
    if outputs.dtype == torch.float32 and outputs.device.type == "cpu" and (compiled := library()):
        return _combined(compiled, outputs.contiguous(), gates.contiguous())
    total, *others = (outputs.to(torch.float32) * gates[:, :, None]).unbind(1)
    for other in others:
        total = total.add_(other)
    return total.to(outputs.dtype)


def _combined(compiled: ctypes.CDLL, outputs: Tensor, gates: Tensor) -> Tensor:
    """Do the same in one call; the bits are the same."""
    total = outputs.new_empty(outputs.shape[0], outputs.shape[2])
    compiled.glm5_combine(outputs.data_ptr(), gates.data_ptr(), *outputs.shape, total.data_ptr())
    return total
