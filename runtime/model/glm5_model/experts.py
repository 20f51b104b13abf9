"""Routed experts: what a shard holds and computes, and how a client sums the answers."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from glm5_model.errors import NotHeld
from glm5_model.kernels import Kernels


@dataclass(frozen=True, slots=True)
class LayerExperts:
    """Some experts of one layer."""

    experts: tuple[int, ...]
    """Logical ids, ascending; slot i of the tensors is experts[i]."""
    gate_up: Tensor
    """[held, hidden, 2 * width]: gate first."""
    down: Tensor
    """[held, width, hidden]."""


class ExpertWeights:
    """Some routed experts of every sparse layer. Stateless: the same rows give the same answer on every holder."""

    def __init__(self, layers: Mapping[int, LayerExperts]) -> None:
        """Hold `layers` by index."""
        self._layers = dict(layers)
        # One view per expert, made once: taking it anew costs as much as a small product.
        self._views = {i: (held.gate_up.unbind(0), held.down.unbind(0)) for i, held in self._layers.items()}
        self._slots = {i: {e: s for s, e in enumerate(held.experts)} for i, held in self._layers.items()}

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
            slots = torch.tensor([self._slot(layer, expert) for expert in experts], dtype=torch.int64)
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
        by_expert: dict[int, list[int]] = {}
        for pair, expert in enumerate(pair_experts.tolist()):
            by_expert.setdefault(self._slot(layer, expert), []).append(pair)
        if not by_expert:
            return rows.new_empty(0, rows.shape[1])
        gate_up, down = self._views[layer]
        least = kernels.row_floor([gate_up[0], down[0]])
        order, sizes, places = _filled_groups(by_expert, least)
        groups = rows[pair_rows[order]].split_with_sizes(sizes)  # each [group, hidden]
        inner = torch.cat([kernels.linear(x, gate_up[s]) for x, s in zip(groups, by_expert, strict=True)])
        gate, up = inner.chunk(2, dim=-1)
        active = (kernels.silu(gate) * up).split_with_sizes(sizes)  # each [group, width]
        outputs = torch.cat([kernels.linear(x, down[s]) for x, s in zip(active, by_expert, strict=True)])
        return outputs[places]

    def _slot(self, layer: int, expert: int) -> int:
        """Return where an expert lies."""
        try:
            return self._slots[layer][expert]
        except KeyError:
            raise NotHeld(layer, expert, self.experts(layer)) from None


def _filled_groups(groups: dict[int, list[int]], least: int) -> tuple[list[int], list[int], list[int]]:
    """Return pairs in the order of their groups, each group filled up to `least` with its last pair.

    Filling up here, once, is cheaper than in each product.

    Returns:
        the pairs in order, the groups' sizes, and for each pair its place in that order.
    """
    order: list[int] = []
    sizes: list[int] = []
    places = [0] * sum(map(len, groups.values()))
    for pairs in groups.values():
        for pair in pairs:
            places[pair] = len(order)
            order.append(pair)
        missing = max(0, least - len(pairs))
        order += pairs[-1:] * missing
        sizes.append(len(pairs) + missing)
    return order, sizes, places


def combine(outputs: Tensor, gates: Tensor) -> Tensor:
    """Return each row's experts' outputs times their gates, summed in ascending order of k in float32.

    Args:
        outputs: [N, k, hidden].
        gates: [N, k] float32.

    Returns:
        [N, hidden] in the dtype of `outputs`.
    """
    total, *others = (outputs.to(torch.float32) * gates[:, :, None]).unbind(1)
    for other in others:
        total = total.add_(other)
    return total.to(outputs.dtype)
